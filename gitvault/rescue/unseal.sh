#!/bin/sh
# Makes a vault of an encrypted remote that was downloaded into a folder, without gitvault.
#
#   sh unseal.sh KEYFILE FOLDER VAULT.git
#
# KEYFILE: secret keys, as age-keygen or ssh-keygen wrote them. VAULT.git must not exist. It needs age, git and POSIX
# tools. Then: sh VAULT.git/rescue.sh list, which needs zstd too. Exit code: 0 every object was opened; 1 some were not,
# each is named; 128 it cannot be done; 129 wrong usage.
set -u
LC_ALL=C
export LC_ALL

say() { printf 'unseal.sh: %s\n' "$*" >&2; }
fail() { say "$1"; exit "${2:-128}"; }
if [ $# -ne 3 ]; then fail 'usage: sh unseal.sh KEYFILE FOLDER VAULT.git' 129; fi
key=$1 folder=$2 vault=$3
case $key in /*) ;; *) key=$PWD/$key ;; esac
command -v age > /dev/null || fail 'age is not installed; see https://age-encryption.org'
if [ -e "$vault" ]; then fail "$vault: in the way; name a folder that does not exist yet"; fi
git init -q --bare "$vault" && mkdir -p "$vault/chunks" "$vault/unsealed/machines" || exit 128
vault=$(cd "$vault" && pwd)
cd "$folder" || exit 128

troubles=0
find . -type f ! -name README ! -name '*.sh' ! -path './keys/*' > "$vault/unsealed/list"
while IFS= read -r file; do
    if ! age -d -i "$key" -o "$vault/unsealed/text" "$file" 2> "$vault/unsealed/said"; then
        say "$file: $(head -n 1 "$vault/unsealed/said")"
        troubles=1
        continue
    fi
    # gitvault NAME LENGTH MAC
    line=$(head -n 1 "$vault/unsealed/text")
    rest=${line#gitvault }
    name=${rest%% *}
    rest=${rest#* }
    case $name in
    git/*) target=$vault/objects/pack/unsealed-${name#git/} ;;
    chunks/*) target=$vault/chunks/${name#chunks/} ;;
    machines/*) target=$vault/unsealed/machines/$(printf '%s' "${name#machines/}" | tr / .) ;;
    *) continue ;;
    esac
    case ${target#"$vault/"} in *..*) continue ;; esac
    tail -c "+$((${#line} + 2))" "$vault/unsealed/text" | head -c "${rest%% *}" > "$target"
    rm -f "$vault/unsealed/text"
    case $name in git/*)
        git --git-dir="$vault" index-pack "$target" > /dev/null || { troubles=1; rm -f "$target"; } ;;
    esac
done < "$vault/unsealed/list"

# The newest record of each machine says what the refs were: "refs":{"refs/heads/x":"0123...",...}
for chain in $(ls "$vault/unsealed/machines" | sed 's/\..*//' | sort -u); do
    newest=$(ls "$vault/unsealed/machines/$chain".* | sort | tail -n 1)
    sed 's/.*"refs":{\([^}]*\)}.*/\1/' "$newest" | tr ',' '\n' |
        sed -n 's/^"\(refs\/[^"\\]*\)":"\([0-9a-f]\{40\}\)"$/\2 \1/p'
done > "$vault/unsealed/refs"
while read -r oid ref; do
    # Two machines may have their own line of one project.
    if held=$(git --git-dir="$vault" rev-parse -q --verify "$ref") && [ "$held" != "$oid" ]; then
        ref=$ref%40$(printf '%s' "$oid" | cut -c 1-12)
    fi
    git --git-dir="$vault" update-ref "$ref" "$oid" || { say "$ref: cannot be had"; troubles=1; }
done < "$vault/unsealed/refs"
cp rescue.sh "$vault/" || troubles=1
rm -rf "$vault/unsealed"
exit "$troubles"
