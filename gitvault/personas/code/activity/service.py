"""The watcher as a service of the user: what each system's manager of services is told, and how.

Texts are made by pure functions; only `install`, `uninstall` and `status` touch anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from gitvault.core.utils import process
from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError, ToolError

Run = Callable[[Sequence[str]], bytes]
"""Runs a program. Raises ToolError."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system keeps services of a user, and how it is told of them."""

    system: str
    """`systemd`, `launchd` or `task-scheduler`."""
    file: Path
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    ask: tuple[str, ...]


def place(system: str, home: Path, config: Path) -> Place:
    """`system`: as `sys.platform`; `config`: the user's folder of settings. Raises GitVaultError for another system."""
    if system == "linux":
        user = ("systemctl", "--user")
        return Place(
            "systemd",
            config / "systemd" / "user" / "git-vault.service",
            ((*user, "daemon-reload"), (*user, "enable", "--now", "git-vault.service")),
            ((*user, "disable", "--now", "git-vault.service"),),
            (*user, "is-active", "git-vault.service"),
        )
    if system == "darwin":
        file = home / "Library" / "LaunchAgents" / "org.gitvault.watch.plist"
        return Place(
            "launchd",
            file,
            (("launchctl", "load", "-w", str(file)),),
            (("launchctl", "unload", "-w", str(file)),),
            ("launchctl", "list", "org.gitvault.watch"),
        )
    if system == "win32":
        file = config / "gitvault" / "watch.xml"
        return Place(
            "task-scheduler",
            file,
            (
                ("schtasks", "/Create", "/F", "/TN", "git-vault watch", "/XML", str(file)),
                ("schtasks", "/Run", "/TN", "git-vault watch"),
            ),
            (("schtasks", "/Delete", "/F", "/TN", "git-vault watch"),),
            ("schtasks", "/Query", "/TN", "git-vault watch"),
        )
    raise GitVaultError(f"{system}: no manager of services is known there; start git-vault watch at login")


def text(system: str, command: Sequence[str]) -> str:
    """What the file of a `Place.system` says; `command`: what it runs."""
    return {"systemd": systemd_unit, "launchd": launchd_plist, "task-scheduler": task_xml}[system](command)


# What means something to systemd within quotes.
_SYSTEMD = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"})


def systemd_unit(command: Sequence[str]) -> str:
    """A unit of systemd's user instance."""
    # systemd takes `%` and `$` for its own, and `"` as a shell does.
    words = (
        '"' + w.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"' for w in command
    )
    return f"""[Unit]
Description=git-vault: saves projects while they are worked on

[Service]
ExecStart={" ".join(words)}
Restart=on-failure
RestartSec=10
# A snapshot under way is waited for, and what is killed after that loses nothing that was saved.
KillMode=mixed
Nice=10
IOSchedulingClass=idle

[Install]
WantedBy=default.target
"""


def launchd_plist(command: Sequence[str]) -> str:
    """A property list for launchd."""
    words = "\n".join(f"    <string>{escape(word)}</string>" for word in command)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>org.gitvault.watch</string>
  <key>ProgramArguments</key>
  <array>
{words}
  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ProcessType</key>
  <string>Background</string>
  <key>LowPriorityIO</key>
  <true/>
</dict>
</plist>
"""


def task_xml(command: Sequence[str]) -> str:
    """A task for the Task Scheduler of Windows."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>git-vault: saves projects while they are worked on</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
    </LogonTrigger>
  </Triggers>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>8</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>10</Count>
    </RestartOnFailure>
  </Settings>
  <Actions>
    <Exec>
      <Command>{escape(command[0])}</Command>
      <Arguments>{escape(_windows_words(command[1:]))}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def install(where: Place, command: Sequence[str], disk: Disk, run: Run = process.run) -> str:
    """Write the file and have the service started; what could not be done, for people, or "". Raises OSError."""
    disk.make_folder(where.file.parent, 0o755)
    disk.write_durably(where.file, text(where.system, command).encode(), 0o644)
    return _tell(where.start, run)


def uninstall(where: Place, disk: Disk, run: Run = process.run) -> str:
    """Have the service ended and remove the file; what could not be done, for people, or ""."""
    said = _tell(where.stop, run)
    disk.unlink(where.file)
    return said


def is_running(where: Place, run: Run = process.run) -> bool:
    """Whether the system says that the service is there and, where it tells, runs."""
    return not _tell((where.ask,), run)


def _tell(commands: Sequence[tuple[str, ...]], run: Run) -> str:
    for command in commands:
        try:
            run(command)
        except ToolError as error:
            return f"{shlex.join(command)}: {error}"
    return ""


def _windows_words(words: Sequence[str]) -> str:
    return " ".join(f'"{word}"' if " " in word or not word else word for word in words)
