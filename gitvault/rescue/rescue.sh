#!/bin/sh
# Gets everything back from the gitvault vault that this file lies in, without gitvault.
#
#   sh VAULT/rescue.sh list                    the snapshots of each project, newest first
#   sh VAULT/rescue.sh restore SNAPSHOT DIR    SNAPSHOT as git knows it: an id, its beginning, BRANCH, BRANCH~2
#
# It needs git, zstd, awk, sha256sum (or shasum) and POSIX tools. DIR must be new or empty; nothing is written outside
# of it. Exit code: 0 every file has its hash; 1 something is damaged, each such path is named, and what could be had of
# a file is NAME.damaged, with zeros where bytes are lost; 128 it cannot be done; 129 wrong usage.
# Times, permissions, owners and extended attributes: rescue.py. RESCUE.md has the manual way.
set -u
LC_ALL=C
export LC_ALL
tab='	'
work='' made=''

say() { printf 'rescue.sh: %s\n' "$*" >&2; }
fail() { say "$1"; exit "${2:-128}"; }
usage() { fail 'usage: sh rescue.sh list | sh rescue.sh restore SNAPSHOT DIR' 129; }
leave() {
    code=$?
    trap - EXIT
    cd /
    if [ -n "$work" ]; then rm -rf "$work"; fi
    if [ -n "$made" ]; then rmdir "$made" 2>/dev/null; fi
    exit "$code"
}

# Nothing that the vault, its owner or this machine has configured takes part: git reads the vault's objects and copies
# of its refs through a repository of our own.
repository() { # below the folder $work
    for variable in $(git rev-parse --local-env-vars); do unset "$variable"; done
    mkdir "$work/git" "$work/git/objects" "$work/git/refs" "$work/git/info"
    cp -R "$vault/refs/." "$work/git/refs/" || fail "$vault: its refs cannot be read"
    if [ -f "$vault/packed-refs" ]; then cp "$vault/packed-refs" "$work/git/"; fi
    echo 'ref: refs/heads/main' > "$work/git/HEAD"
    if [ -f "$vault/HEAD" ]; then cp "$vault/HEAD" "$work/git/"; fi
    printf '[core]\n%s\n' 'repositoryformatversion = 0
        filemode = true
        symlinks = false
        quotePath = true
        autocrlf = false
        hooksPath = /dev/null
        protectNTFS = false
        protectHFS = false' > "$work/git/config"
    echo '* -text !eol -ident !working-tree-encoding !filter' > "$work/git/info/attributes"
    GIT_DIR=$work/git GIT_OBJECT_DIRECTORY=$vault/objects HOME=$work XDG_CONFIG_HOME=$work GIT_PAGER=cat
    GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_ATTR_NOSYSTEM=1
    GIT_NO_REPLACE_OBJECTS=1 GIT_NO_LAZY_FETCH=1 GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0
    export GIT_DIR GIT_OBJECT_DIRECTORY HOME XDG_CONFIG_HOME GIT_PAGER GIT_CONFIG_NOSYSTEM GIT_CONFIG_GLOBAL
    export GIT_CONFIG_SYSTEM GIT_ATTR_NOSYSTEM GIT_NO_REPLACE_OBJECTS GIT_NO_LAZY_FETCH GIT_TERMINAL_PROMPT
    export GIT_OPTIONAL_LOCKS
}

list() {
    work=$(mktemp -d) || exit 128
    repository
    damaged=0
    git for-each-ref --format='%(refname)' refs/heads > "$work/branches" || exit 1
    while IFS= read -r branch; do
        git log --first-parent --format='%x01%H%x02%aI%x02%s%n%B' "$branch" -- > "$work/log" 2> "$work/said" || {
            damaged=1
            say "$branch: not all of its history can be read: $(head -n 1 "$work/said")"
        }
        # A snapshot whose commit was rewritten keeps the id of the first.
        branch=$branch awk '
            function hex(text) { return index("0123456789ABCDEF", toupper(text)) - 1 }
            function show() { if (id != "") printf "%s  %s  %s  %s\n", id, time, project, subject }
            BEGIN {
                project = ""
                rest = substr(ENVIRON["branch"], 12)
                while ((at = index(rest, "%")) > 0) {
                    high = hex(substr(rest, at + 1, 1))
                    low = hex(substr(rest, at + 2, 1))
                    project = project substr(rest, 1, at - 1) sprintf("%c", high * 16 + low)
                    rest = substr(rest, at + 3)
                }
                project = project rest
            }
            substr($0, 1, 1) == "\001" {
                show()
                split(substr($0, 2), part, "\002")
                id = part[1]; time = part[2]; subject = part[3]
                next
            }
            /^Vault-Snapshot: [0-9a-f]+$/ && length($2) == 40 { id = $2 }
            END { show() }' "$work/log" | tr -d '\000-\010\013-\037\177'
    done < "$work/branches"
    exit "$damaged"
}

# Paths are handled as git quotes them, without the quotes: `caf\303\251`, one line each. BODY: such a path. These awk
# functions turn the BODY of a tree's name into that of the file's (%XX is a byte), and a BODY into words of the shell.
names='
    function setup(   n, hex, special, i) {
        special = "\007a\010b\011t\012n\013v\014f\015r\"\"\\\\"
        for (n = 0; n < 256; n++) {
            hex = sprintf("%02X", n)
            raw[sprintf("%03o", n)] = sprintf("%c", n)
            byte[hex] = n >= 32 && n < 127 ? sprintf("%c", n) : sprintf("\\%03o", n)
        }
        for (i = 1; i < length(special); i += 2) raw[substr(special, i + 1, 1)] = substr(special, i, 1)
        byte["07"] = "\\a"; byte["08"] = "\\b"; byte["09"] = "\\t"; byte["0A"] = "\\n"; byte["0B"] = "\\v"
        byte["0C"] = "\\f"; byte["0D"] = "\\r"; byte["22"] = "\\\""; byte["5C"] = "\\\\"
        # No name holds these: what they give is refused.
        byte["2F"] = "//"; byte["00"] = "//"
    }
    function final(text,   out, at, hex) {
        out = ""
        while ((at = index(text, "%")) > 0) {
            hex = toupper(substr(text, at + 1, 2))
            if (hex in byte) { out = out substr(text, 1, at - 1) byte[hex]; text = substr(text, at + 3) }
            else { out = out substr(text, 1, at); text = substr(text, at + 1) }
        }
        return out text
    }
    function climbs(path) {
        path = "/" path "/"
        return index(path, "//") || index(path, "/./") || index(path, "/../")
    }
    function parent(path) { return match(path, /.*\//) ? substr(path, 1, RLENGTH - 1) : "" }
    function last(path) { return match(path, /.*\//) ? substr(path, RLENGTH + 1) : path }
    function bytes(text,   out, at, key) {
        out = ""
        while ((at = index(text, "\\")) > 0) {
            key = substr(text, at + 1, 3)
            if (key !~ /^[0-7][0-7][0-7]$/) key = substr(key, 1, 1)
            out = out substr(text, 1, at - 1) raw[key]
            text = substr(text, at + 1 + length(key))
        }
        return out text
    }
    function word(body,   out, at) {
        body = "./" bytes(body)
        out = ""
        while ((at = index(body, "\047")) > 0) {
            out = out substr(body, 1, at - 1) "\047\\\047\047"
            body = substr(body, at + 1)
        }
        return "\047" out body "\047"
    }
'

restore() {
    snapshot=$1 dir=$2
    case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
    if [ -d "$dir" ]; then
        if [ -n "$(ls -A "$dir")" ]; then fail "$dir: not empty; name a folder that does not exist yet"; fi
    elif [ -e "$dir" ] || [ -h "$dir" ]; then
        fail "$dir: in the way; name a folder that does not exist yet"
    else
        mkdir -p "$dir" && chmod 700 "$dir" || exit 128
        made=$dir
    fi
    cd "$dir" || exit 128
    case $(pwd -P)/ in "$vault"/*) fail "$dir: lies inside the vault; name another folder" ;; esac
    work=$(mktemp -d "$(pwd -P)/.rescue-XXXXXXXXXX") || exit 128
    repository
    # Its owner's name for it may be that of a commit that was rewritten since.
    commit=''
    case $snapshot in
    -*) ;;
    *) commit=$(git rev-parse --verify -q "$snapshot^{commit}") ;;
    esac
    case $commit$snapshot in
    '' | *[!0-9a-f]*) ;;
    *) commit=${commit:-$(git log --all -n 1 --format=%H --grep="^Vault-Snapshot: $snapshot" 2>/dev/null)} ;;
    esac
    if [ -z "$commit" ]; then fail "$snapshot: no such snapshot; sh $0 list shows them"; fi
    : > "$work/problems"
    troubles=0 right=0
    listing
    pointers
    small
    large
    symlinks
    if [ -s "$work/problems" ]; then room; fi
    cat "$work/problems" >&2
    troubles=$((troubles + $(grep -c . "$work/problems")))
    say "$right files of $commit, $troubles problems"
    made=''
    if [ "$troubles" -gt 0 ]; then exit 1; fi
    # Counted without the disk: on one that was full for a moment, no list of ours is to be trusted.
    if [ "$right" -ne "$(git ls-tree -r --full-tree "$commit" | awk 'END { print NR }')" ]; then full; fi
    exit 0
}

full() { fail "$dir: cannot be written; is the disk full?"; }
room() { head -c 1048576 /dev/zero > "$work/room" 2>/dev/null || full; }

problem() { # BODY: WHY
    printf 'damaged: %s\n' "$1" >&2
    troubles=$((troubles + 1))
}

# tree TREE FILE: what is below it, `MODE KIND OID SIZE <tab>"BODY"`, folders before what is in them.
tree() {
    : > "$2"
    if git ls-tree -r -t -l --full-tree "$1" > "$work/tree" 2>/dev/null; then
        sed "s/$tab\"\{0,1\}/$tab\"/; s/\"\{0,1\}\$/\"/" "$work/tree" > "$2" || full
        return
    fi
    # Something is damaged: folder by folder.
    printf '%s\t\n' "$1" > "$work/queue"
    while [ -s "$work/queue" ]; do
        : > "$work/below"
        while IFS=$tab read -r oid prefix; do
            if git ls-tree -l "$oid" > "$work/tree" 2>/dev/null; then
                prefix=$prefix below=$work/below awk '{
                    at = index($0, "\t")
                    body = substr($0, at + 1)
                    if (body ~ /^"/) body = substr(body, 2, length(body) - 2)
                    body = ENVIRON["prefix"] body
                    print substr($0, 1, at) "\"" body "\""
                    if ($2 == "tree") print $3 "\t" body "/" > ENVIRON["below"]
                }' "$work/tree" >> "$2"
            else
                prefix=${prefix%/}
                problem "${prefix:-.}: what is in this folder cannot be read (tree $oid)"
            fi
        done < "$work/queue"
        mv "$work/below" "$work/queue"
    done
}

# What the snapshot holds. Makes: folders, moves (what to call differently than git does), files (blobs of git, with
# mode, id, size, name in the tree, name), maybe (those that may be pointers), links.
listing() {
    tree "$commit^{tree}" "$work/entries"
    meta=$(git cat-file commit "$commit" | sed -n 's/^Vault-Meta: //p' | tail -n 1)
    : > "$work/mirror"
    if [ -n "$meta" ]; then tree "$meta^{tree}" "$work/mirror"; fi
    for name in folders moves files maybe links; do : > "$work/$name"; done
    work=$work awk "$names"'
        function put(file, text) { print text > (ENVIRON["work"] "/" file) }
        function refuse(body, why) { print "damaged: " body ": " why >> (ENVIRON["work"] "/problems") }
        # What is said of checkouts is no file of the project, but what is needed of them.
        function place(path) { return path ~ /^%00vcs(\/|$)/ ? ".gitvault-" substr(path, 4) : final(path) }
        BEGIN { setup(); taken[""] = "folder" }
        {
            at = index($0, "\t")
            path = substr($0, at + 2, length($0) - at - 2)
            name = place(path)
            above = place(parent(path))
        }
        from == "mirror" {
            # Folders without files are here only.
            if (path == "%00meta" || path ~ /\/%00meta$/) next
            if (climbs(name) || taken[above] != "folder" || (name in taken)) next
            taken[name] = "folder"
            put("folders", name)
            next
        }
        climbs(name) { refuse(path, "its name would lead out of the folder"); next }
        taken[above] != "folder" { refuse(path, "the folder that it is in is not restored"); next }
        name in taken { refuse(path, "there is another file of this name"); next }
        { taken[name] = $2 == "tree" ? "folder" : "file" }
        $2 != "commit" && last(path) != last(name) {
            put("moves", (above == "" ? "" : above "/") last(path) "\t" name)
        }
        $2 == "tree" { put("folders", name); next }
        $2 == "commit" { refuse(path, "a submodule, which is not in the vault"); next }
        $4 !~ /^[0-9]+$/ { refuse(path, "git cannot find it (blob " $3 ")"); next }
        $1 == "120000" { put("links", $3 "\t" name) }
        # A pointer has 126 bytes at least, and at most 19 digits for the size.
        { put($1 != "120000" && $4 > 125 && $4 < 145 ? "maybe" : "files",
            ($1 == "100755" ? $1 : "100644") "\t" $3 "\t" $4 "\t" path "\t" name) }
    ' from=entries "$work/entries" from=mirror "$work/mirror" ||
        fail 'awk failed; is the disk full? else try mawk, gawk or that of busybox'
}

# checkout INDEX PREFIX: write the blobs of `MODE OID<tab>"BODY"` lines. git names what it cannot read, and stops at an
# object that is damaged in a pack: it goes on without that one.
checkout() {
    while [ -s "$1" ]; do
        rm -f "$work/git/index"
        git update-index --index-info < "$1" 2> "$work/said" || say "$(head -n 1 "$work/said")"
        if GIT_WORK_TREE=$(pwd -P) git checkout-index -a -q --prefix="$2" 2> "$work/said"; then return; fi
        sed -n '/^fatal:/s/.* \([0-9a-f]\{40\}\) .*/\1/p' "$work/said" > "$work/bad"
        if ! [ -s "$work/bad" ]; then return; fi
        grep -v -F -f "$work/bad" "$1" > "$1.rest"
        if cmp -s "$1" "$1.rest"; then return; fi
        mv "$1.rest" "$1"
    done
}

# hashes LIST: for `OID<tab>BODY` lines, those whose file has another hash: `?<tab>BODY` cannot be read, `!<tab>BODY`.
hashes() {
    : > "$work/got"
    cut -f 2 "$1" | sed 's/^/"/; s/$/"/' > "$work/paths"
    while :; do
        count=$(awk 'END { print NR }' "$work/got")
        # It stops at the first path that cannot be read.
        if tail -n "+$((count + 1))" "$work/paths" | GIT_WORK_TREE=$(pwd -P) \
            git hash-object --no-filters --stdin-paths >> "$work/got" 2>/dev/null; then break; fi
        echo '?' >> "$work/got"
    done
    awk -F '\t' 'got { if ($1 "" != want[FNR]) print ($1 == "?" ? "?" : "!") "\t" body[FNR]; next }
        { want[FNR] = $1; body[FNR] = $2 }' "$1" got=1 "$work/got"
}

# Which of the files in `maybe` are pointers. Makes: large, `N MODE HASH SIZE<tab>BODY`; the others go to files.
pointers() {
    mkdir "$work/p"
    awk -F '\t' '{ print $1 " " $2 "\t" NR }' "$work/maybe" > "$work/index"
    checkout "$work/index" "$work/p/"
    # A damaged one must not lead to another file.
    below=${work##*/}/p awk -F '\t' '{ print $2 "\t" ENVIRON["below"] "/" NR }' "$work/maybe" > "$work/check"
    hashes "$work/check" | sed 's/.*\///' > "$work/bad"
    : > "$work/large"
    work=$work awk -F '\t' '
        bad { skip[$1]; next }
        FNR in skip {
            print "damaged: " $5 ": git cannot read it (blob " $2 ")" >> (ENVIRON["work"] "/problems")
            next
        }
        {
            file = ENVIRON["work"] "/p/" FNR
            rows = 0
            split("", row)
            while ((getline line < file) > 0) row[++rows] = line
            close(file)
            hash = substr(row[2], 12)
            if (rows == 3 && row[1] == "version https://git-lfs.github.com/spec/v1" && length(hash) == 64 &&
                    row[2] ~ /^oid sha256:[0-9a-f]+$/ && row[3] ~ /^size [0-9]+$/ && 120 + length(row[3]) == $3)
                print FNR " " $1 " " hash " " substr(row[3], 6) "\t" $5 >> (ENVIRON["work"] "/large")
            else print >> (ENVIRON["work"] "/files")
        }' bad=1 "$work/bad" bad= "$work/maybe"
    rm -rf "$work/p"
}

# The blobs of git, then the names that git cannot hold, then each hash, then the folders without such a file.
small() {
    awk -F '\t' '{ print $1 " " $2 "\t\"" $4 "\"" }' "$work/files" > "$work/index"
    checkout "$work/index" ''
    awk -F '\t' "$names"'
        BEGIN { setup() }
        { print "if [ -e " word($1) " ] && ! [ -e " word($2) " ]; then mv " word($1) " " word($2) "; fi" }
    ' "$work/moves" > "$work/do" || full
    . "$work/do"
    awk -F '\t' '{ print $2 "\t" $5 }' "$work/files" > "$work/check"
    hashes "$work/check" > "$work/bad" || full
    right=$(awk -F '\t' 'got { right += $1 "" == want[FNR]; next } { want[FNR] = $1 } END { print right + 0 }' \
        "$work/check" got=1 "$work/got")
    work=$work awk -F '\t' "$names"'
        BEGIN { setup() }
        {
            why = $1 == "?" ? "git cannot read it" : "it has not the hash that it should have"
            print "damaged: " $2 ": " why >> (ENVIRON["work"] "/problems")
            if ($1 == "!") print "keep mv " word($2) " " word($2 ".damaged")
        }' "$work/bad" > "$work/do" || full
    . "$work/do"
    awk -F '\t' "$names"'
        BEGIN { setup() }
        { printf "%s %s", (NR % 50 == 1 ? "\nmkdir -p" : ""), word($1) }
        END { print "" }
    ' "$work/folders" > "$work/do" || full
    . "$work/do"
}

keep() { # mv|cp FILE PATH
    if [ -e "$3" ] || [ -h "$3" ]; then
        extra=1
        while [ -e "$3.$extra" ] || [ -h "$3.$extra" ]; do extra=$((extra + 1)); done
        problem "$3: another file has this name; it is $3.$extra"
        set -- "$1" "$2" "$3.$extra"
    fi
    "$1" "$2" "$3" && return
    problem "$3: cannot be written"
    return 1
}

# Last, so that nothing is ever written through one.
symlinks() {
    awk -F '\t' "$names"' BEGIN { setup() } { print "link " word($2) }' "$work/links" > "$work/do" || full
    . "$work/do"
}

link() { # PATH of a file that holds what the symlink is to name
    if [ -f "$1" ]; then
        target=$(cat "$1"; echo .)
        ln -sf -- "${target%.}" "$1" || problem "$1: the symlink cannot be made"
    fi
}

# Large files. Their content is in the packs of chunks; RESCUE.md explains how. `table`: the rows of all packs, the
# pack's number before each; `packs`: `NUMBER FILE`.
tables() {
    : > "$work/table"
    : > "$work/packs"
    number=0
    for pack in "$vault"/chunks/*.zpk "$vault"/chunks/trash/*.zpk; do
        name=${pack##*/}
        case ${name%.zpk} in *[!0-9a-f]*) continue ;; esac
        number=$((number + 1))
        if table "$pack"; then
            sed "s/^/$number /" "$work/rows" >> "$work/table"
            echo "$number ${pack#"$vault/chunks/"}" >> "$work/packs"
        else
            say "$pack: ${newer:-its table cannot be read}"
        fi
    done
}

table() { # PACK: its table into rows, as its last 57 bytes say where, or else by looking for the frame it is in
    newer=''
    set -- "$1" $(tail -c 57 "$1" | tr -cd 'a-z0-9 ' | awk '$1 == "gitvault" && $2 == "table" && $3 + $4 > 0 {
        printf "%.0f %.0f %.0f %.0f", $3, $4, $3 + $4 + 8, $4 }')
    shown "$@" && return
    if [ -n "$newer" ]; then return 1; fi
    size=$(wc -c < "$1")
    tail=$((size < 8388608 ? size : 8388608))
    set -- "$1" $(tail -c "$tail" "$1" | od -An -v -tx1 | tr -d ' \n' | awk -v start="$((size - tail))" '
        function value(hex) { return 16 * digit(substr(hex, 1, 1)) + digit(substr(hex, 2, 1)) }
        function digit(hex) { return index("0123456789abcdef", hex) - 1 }
        {
            rest = $0
            gone = 0
            while ((at = index(rest, "572a4d18")) > 0) {
                length_ = 0
                for (i = 3; i >= 0; i--) length_ = 256 * length_ + value(substr(rest, at + 8 + 2 * i, 2))
                if ((gone + at) % 2 && length_ > 57) printf "%.0f %.0f ", start + (gone + at - 1) / 2 + 8, length_
                gone += at
                rest = substr(rest, at + 1)
            }
        }')
    shown "$@"
}

shown() { # PACK [OFFSET LENGTH ...]: the table at the first of these places that has one
    pack=$1
    shift
    while [ $# -gt 1 ]; do
        tail -c "+$(($1 + 1))" "$pack" | head -c "$2" | zstd -qdc 2>/dev/null | head -c 268435456 > "$work/rows"
        shift 2
        end=$(tail -n 1 "$work/rows" | tr -d '\000')
        if [ "$end" = "end $(sed '$d' "$work/rows" | $sha256 | cut -c 1-64)" ]; then
            newer=$(awk '!/^(frame|chunk|manifest|level|end) / { print $1; exit }' "$work/rows")
            if [ -z "$newer" ]; then return; fi
            newer="rows of the kind $newer: it is of a newer gitvault, whose rescue.sh reads it"
            return 1
        fi
    done
    return 1
}

large() {
    if ! [ -s "$work/large" ]; then return; fi
    mkdir "$work/f" "$work/m"
    tables
    # The lists of chunks come first; they are kept in chunks themselves.
    awk 'large { wanted[$3]; next } $2 == "manifest" && $3 in wanted' large=1 "$work/large" large= "$work/table" \
        > "$work/manifests"
    awk '{ for (i = 4; i <= NF; i++) if (!($i in seen)) { seen[$i]; print ++number " " $i } }' "$work/manifests" \
        > "$work/sums"
    awk '{ print $1 " " $2 " 0" }' "$work/sums" > "$work/want"
    cp "$work/sums" "$work/parts"
    assemble
    mv "$work/o" "$work/m"
    # Batches of 4 GiB, for the memory of awk and the disk. A list is cut anywhere: its parts are read as one, by name.
    (cd "$work/m/o" && work=$work awk '
        mode == "parts" { part[$2] = $1; next }
        mode == "manifests" { row[$3 " " ++rows[$3]] = $0; next }
        ($3 in first) { print $1 " " first[$3] > (ENVIRON["work"] "/same"); next }
        {
            first[$3] = $1
            if (batch == 0 || total + $4 > 4294967296) { batch++; total = 0; print batch }
            total += $4
            print $1 " " $3 > (ENVIRON["work"] "/sums." batch)
            found = 0
            if (!($3 in rows) && $4 <= 16777216) { lines = 1; line[1] = $3 " " $4; found = 1 }
            for (i = 1; i <= rows[$3] && !found; i++) found = read_list(row[$3 " " i], $4)
            for (i = 1; found && i <= lines; i++) print $1 " " line[i] > (ENVIRON["work"] "/want." batch)
        }
        function read_list(text, size,   n, i, names_, sum, field, split_, next_) {
            n = split(text, field, " ")
            if (n < 4) return 0
            names_ = "cat"
            for (i = 4; i <= n; i++) names_ = names_ " " part[field[i]]
            names_ = names_ " 2> /dev/null"
            lines = sum = 0
            while (sum >= 0 && (names_ | getline next_) > 0) {
                split(next_, split_, " ")
                if (next_ !~ /^[0-9a-f]+ [0-9]+$/ || length(split_[1]) != 64) sum = -1
                else {
                    line[++lines] = next_
                    sum += split_[2]
                }
            }
            close(names_)
            return sum == size
        }
    ' mode=parts "$work/parts" mode=manifests "$work/manifests" mode=large "$work/large" > "$work/batches")
    touch "$work/same"
    while read -r batch <&3; do
        mv "$work/sums.$batch" "$work/sums"
        touch "$work/want.$batch"
        mv "$work/want.$batch" "$work/want"
        assemble
        put
    done 3< "$work/batches"
}

# Give the files that were assembled their names.
put() {
    work=$work awk "$names"'
        BEGIN { setup() }
        mode == "sums" { mine[$1]; next }
        mode == "same" { same[$1] = $2; next }
        mode == "right" { right[$1]; next }
        mode == "zeros" { zeros[$1] += $2; next }
        {
            unit = ($1 in same) ? same[$1] : $1
            if (!(unit in mine)) next
            at = index($0, "\t")
            todo[++count] = unit
            mode_[count] = $2
            size[count] = $4
            body[count] = substr($0, at + 1)
            final_[unit] = count
        }
        END {
            for (i = 1; i <= count; i++) {
                unit = todo[i]
                how = final_[unit] == i ? "mv" : "cp"
                if (unit in right) {
                    print "keep " how " \"$work/o/" unit "\" " word(body[i]) " && right=$((right + 1))"
                    if (mode_[i] == "100755") print "chmod +x " word(body[i])
                    continue
                }
                lost = "its bytes are wrong"
                if (unit in zeros) lost = sprintf("%.0f of its %s bytes are lost", zeros[unit], size[i])
                print "damaged: " body[i] ": " lost >> (ENVIRON["work"] "/problems")
                if (zeros[unit] < size[i]) {
                    print "if [ -f \"$work/o/" unit "\" ]; then"
                    print "keep " how " \"$work/o/" unit "\" " word(body[i] ".damaged") "; fi"
                }
            }
        }
    ' mode=sums "$work/sums" mode=same "$work/same" mode=right "$work/right" mode=zeros "$work/zeros" \
        mode=large "$work/large" > "$work/do" || full
    . "$work/do"
}

# assemble: write o/N of the chunks in `want` (`N CHUNK LENGTH`), compare with `sums` (`N HASH`). What has another hash
# is done once more, each frame by itself, to find the damaged ones; then again without them, in case of other copies.
# Makes: right, the N that have their hash, wrong, the others; zeros, `N LENGTH` for what of those is lost.
assemble() {
    rm -rf "$work/o"
    mkdir "$work/o"
    : > "$work/damaged"
    : > "$work/zeros"
    needed
    careful=''
    plan
    . "$work/do"
    unequal
    careful=1
    while [ -s "$work/wrong" ]; do
        room
        known=$(grep -c . "$work/damaged")
        : > "$work/zeros"
        awk 'wrong { wanted[$1]; next } $1 in wanted' wrong=1 "$work/wrong" wrong= "$work/want" > "$work/again"
        mv "$work/again" "$work/want"
        (cd "$work/o" && xargs rm -f < "$work/wrong")
        plan
        . "$work/do"
        unequal
        if [ "$(grep -c . "$work/damaged")" -eq "$known" ]; then break; fi
    done
    rm -rf "$work/f"
    mkdir "$work/f"
}

unequal() {
    : > "$work/got"
    if [ -s "$work/sums" ]; then
        (cd "$work/o" && cut -d ' ' -f 1 "$work/sums" | xargs $sha256 > "$work/got" 2>/dev/null)
    fi
    : > "$work/right"
    right=$work/right awk '
        got { sub(/^[*]/, "", $2); have[$2] = $1; next }
        have[$1] "" == $2 { print $1 > ENVIRON["right"]; next }
        { print $1 }' got=1 "$work/got" got= "$work/sums" > "$work/wrong" || full
}

# needed: the rows of `table` that say where the chunks in `want` are, and what those stand on, and so on.
needed() {
    : > "$work/rows"
    awk '{ print $2 }' "$work/want" | sort -u > "$work/ask"
    cp "$work/ask" "$work/asked"
    while [ -s "$work/ask" ]; do
        : > "$work/bases"
        work=$work awk '
            mode == "ask" { ask[$1]; next }
            mode == "asked" { asked[$1]; next }
            mode == "rows" { if ($2 == "frame") had[$1 "_" $3]; next }
            $2 == "frame" {
                if ($1 != pack) { pack = $1; split("", row) }
                row[$3] = $0
            }
            $2 == "chunk" && $3 in ask {
                if (!(($1 "_" $4) in had)) {
                    had[$1 "_" $4]
                    print row[$4] > (ENVIRON["work"] "/more")
                    count = split(row[$4], field, " ")
                    for (i = 7; i <= count; i++) if (!(field[i] in asked)) {
                        asked[field[i]]
                        print field[i] > (ENVIRON["work"] "/bases")
                    }
                }
                print > (ENVIRON["work"] "/more")
            }' mode=ask "$work/ask" mode=asked "$work/asked" mode=rows "$work/rows" mode=table "$work/table"
        if [ -f "$work/more" ]; then
            cat "$work/more" >> "$work/rows"
            rm "$work/more"
        fi
        mv "$work/bases" "$work/ask"
        cat "$work/ask" >> "$work/asked"
    done
}

# plan: into `do`, the calls of take, block, part and zero that assemble `want`, by `rows` without `damaged`.
# A frame is PACK_N, which is no number: to awk 1.10 equals 1.1. Frames that stand alone and follow each other in the
# pack and in the file are one `take`. What a delta stands on is a file, `block`, until nobody needs it any more.
plan() {
    awk -v careful="$careful" '
        function alone(frame) { return bases[frame] == "" }
        # Where a chunk can be read, `FRAME INNER LENGTH`: not from what is being decoded for it, nor what is damaged.
        function place(chunk, depth,   count, copy, i) {
            count = split(copies[chunk], copy, " ")
            for (i = 1; i < count; i += 3)
                if (usable(copy[i], depth)) return copy[i] " " copy[i + 1] " " copy[i + 2]
            return ""
        }
        function usable(frame, depth,   count, base, found, i, whole, at) {
            if (frame in ready) return 1
            if ((frame in busy) || depth > 64) return 0
            busy[frame]
            count = split(bases[frame], base, " ")
            whole = ""
            for (i = 1; i <= count; i++) {
                found = place(base[i], depth + 1)
                if (found == "") { delete busy[frame]; return 0 }
                whole = joined(whole, found)
            }
            delete busy[frame]
            ready[frame]
            pieces[frame] = whole
            return 1
        }
        # Add `FRAME INNER LENGTH` to a row of such; neighbours become one.
        function joined(whole, found,   count, field, new) {
            split(found, new, " ")
            count = split(whole, field, " ")
            if (count && field[count - 2] == new[1] && field[count - 1] + field[count] == new[2]) {
                sub(/[0-9]+$/, "", whole)
                return whole sprintf("%.0f", field[count] + new[3])
            }
            return whole (count ? " " : "") found
        }
        function use(frame, now,   count, field, i) {
            if (last[frame] == now) return
            last[frame] = now
            count = split(pieces[frame], field, " ")
            for (i = 1; i < count; i += 3) {
                if (alone(field[i])) base_of[field[i]]
                use(field[i], now)
            }
        }
        # Write what makes the frame a file.
        function make(frame, now,   count, field, i, words, part, name, length_, bytes, until, stop_) {
            if (frame in file) return
            split(frame, part, "_")
            name = frame
            length_ = size[frame]; bytes = stored[frame]; until = last[frame]
            words = ""
            file[frame] = name; start[frame] = 0
            if (alone(frame) && !careful) {
                # Those behind it that are wanted too, in the same call.
                for (stop_ = part[2] + 1; (i = part[1] "_" stop_) in base_of; stop_++) {
                    if ((i in file) || length_ + size[i] > 33554432) break
                    start[i] = length_
                    length_ += size[i]; bytes += stored[i]
                    if (last[i] > until) until = last[i]
                }
                name = frame "-" stop_
                for (i = part[2]; i < stop_; i++) file[part[1] "_" i] = name
            }
            count = split(pieces[frame], field, " ")
            for (i = 1; i < count; i += 3) make(field[i], now)
            for (i = 1; i < count; i += 3)
                words = words piece(field[i], field[i + 1], field[i + 2])
            split(frame, part, "_")
            printf "block %s %s %.0f ", name, pack[part[1]], offset[frame] + 1
            printf "%.0f %.0f%s\n", bytes, blocks(length_), words
            total[name] = length_
            if (until < now) until = now
            unused[until] = unused[until] " " name
        }
        function piece(frame, at, length_) {
            at += start[frame]
            return sprintf(" %s %.0f %.0f", file[frame], at, (at + length_ == total[file[frame]] ? 0 : length_))
        }
        function blocks(bytes) { return int((bytes + 511) / 512) }
        # Write what appends a run to its file.
        function flush(now,   part, i) {
            if (run == "") return
            split(run, part, "_")
            if (alone(run) && !careful) {
                printf "take %s %s %.0f ", out, pack[part[1]], offset[run] + 1
                printf "%.0f %.0f %.0f %.0f\n", bytes_, skip, taken, (skip == 0 && taken == decoded ? blocks(ends) : 0)
            } else {
                make(run, now)
                printf "part %s %s %.0f\n", out, piece(run, skip, taken), taken
            }
            run = ""
            for (; done_ <= now; done_++) if (done_ in unused) {
                gone = gone unused[done_]
                delete unused[done_]
            }
            if (length(gone) > 1000) { print "drop" gone; gone = "" }
        }
        mode == "packs" { pack[$1] = $2; next }
        mode == "damaged" { damaged[$1]; next }
        mode == "rows" && $2 == "frame" {
            frame = $1 "_" $3
            offset[frame] = $4; stored[frame] = $5; size[frame] = $6
            bases[frame] = ""
            if (NF > 6) { $1 = $2 = $3 = $4 = $5 = $6 = ""; bases[frame] = $0 }
            next
        }
        mode == "rows" {
            frame = $1 "_" $4
            if (frame in damaged) next
            # Copies that stand alone first.
            if (alone(frame)) copies[$3] = frame " " $5 " " $6 " " copies[$3]
            else copies[$3] = copies[$3] frame " " $5 " " $6 " "
            next
        }
        mode == "want" {
            count++
            number[count] = $1
            length__[count] = $3
            found = place($2, 0)
            from[count] = found
            if (found != "") {
                split(found, field, " ")
                if (field[1] != before) use(field[1], count)
                last[field[1]] = count
                before = field[1]
            }
        }
        END {
            done_ = 1
            run = ""
            for (i = 1; i <= count; i++) {
                if (split(from[i], field, " ") == 0) {
                    flush(i - 1)
                    printf "zero %s %.0f\n", number[i], length__[i]
                    if (number[i] != before_) { ends = 0; before_ = number[i] }
                    ends += length__[i]
                    continue
                }
                frame = field[1]
                split(frame, part, "_")
                follows = run != "" && number[i] == out && (frame == at && field[2] == stop)
                if (!follows && !careful && run != "" && number[i] == out && alone(run) && alone(frame) &&
                        part[1] == at_pack && part[2] == at_number + 1 && stop == size[at] && field[2] == 0) {
                    follows = 1
                    bytes_ += stored[frame]; decoded += size[frame]
                }
                if (!follows) {
                    flush(i - 1)
                    run = frame; out = number[i]; skip = field[2]; taken = 0
                    bytes_ = stored[frame]; decoded = size[frame]
                }
                taken += field[3]
                if (number[i] != before_) { ends = 0; before_ = number[i] }
                ends += field[3]
                at = frame; at_pack = part[1]; at_number = part[2]; stop = field[2] + field[3]
            }
            flush(count)
        }
    ' mode=packs "$work/packs" mode=damaged "$work/damaged" mode=rows "$work/rows" mode=want "$work/want" \
        > "$work/do" ||
        fail 'awk failed; is the disk full? else try mawk, gawk or that of busybox'
}

# A frame of a hostile vault can decode to much more than the table says: files are limited, in blocks of 512 bytes.
limited() { ulimit -S -f "$1" 2>/dev/null; }

take() { # N PACK OFFSET STORED SKIP LENGTH BLOCKS: append to o/N what frames decode to, from SKIP on; BLOCKS: all of it
    if [ "$7" -gt 0 ]; then
        limited "$7"
        tail -c "+$3" "$vault/chunks/$2" | head -c "$4" | zstd -qdc 2>/dev/null
        limited "$unlimited"
    else
        tail -c "+$3" "$vault/chunks/$2" | head -c "$4" | zstd -qdc 2>/dev/null | tail -c "+$(($5 + 1))" | head -c "$6"
    fi >> "$work/o/$1"
}

block() { # NAME PACK OFFSET STORED BLOCKS [NAME AT LENGTH ...]: decode into f/NAME, against these pieces of others
    name=$1 pack=$2 offset=$3 stored=$4 blocks=$5
    shift 5
    if [ $# -gt 0 ]; then
        while [ $# -gt 0 ]; do
            if ! [ -f "$work/f/$1" ]; then return; fi
            piece "$1" "$2" "$3"
            shift 3
        done > "$work/dictionary"
        tail -c "+$offset" "$vault/chunks/$pack" | head -c "$stored" > "$work/frame.zst"
        limited "$blocks"
        zstd -qdc --patch-from="$work/dictionary" "$work/frame.zst" > "$work/f/$name" 2>/dev/null
    else
        limited "$blocks"
        tail -c "+$offset" "$vault/chunks/$pack" | head -c "$stored" | zstd -qdc > "$work/f/$name" 2>/dev/null
    fi || {
        rm "$work/f/$name"
        if [ -n "$careful" ]; then echo "$name" >> "$work/damaged"; fi
    }
    limited "$unlimited"
}

piece() { # NAME AT LENGTH; LENGTH 0: to the end
    case $2-$3 in
    0-0) cat "$work/f/$1" ;;
    0-*) head -c "$3" "$work/f/$1" ;;
    *-0) tail -c "+$(($2 + 1))" "$work/f/$1" ;;
    *) tail -c "+$(($2 + 1))" "$work/f/$1" | head -c "$3" ;;
    esac
}

part() { # N NAME AT LENGTH BYTES: as a piece, of so many bytes
    if [ -f "$work/f/$2" ]; then piece "$2" "$3" "$4" >> "$work/o/$1"; else zero "$1" "$5"; fi
}

zero() { # N LENGTH: for what is lost
    echo "$1 $2" >> "$work/zeros"
    head -c "$2" /dev/zero >> "$work/o/$1"
}

drop() { (cd "$work/f" && rm -f "$@"); }

case $0 in */*) vault=${0%/*} ;; *) vault=. ;; esac
vault=$(cd -- "$vault" && pwd -P) || exit 128
if ! [ -d "$vault/objects" ]; then fail "$vault: not a vault; run the rescue.sh that lies in one"; fi
for tool in git zstd awk od mktemp; do
    command -v "$tool" > /dev/null || fail "$tool: not found; install it"
done
if command -v openssl > /dev/null; then sha256='openssl dgst -sha256 -r' # five times as fast
elif command -v sha256sum > /dev/null; then sha256=sha256sum
elif command -v shasum > /dev/null; then sha256='shasum -a 256'
else fail 'sha256sum: not found; install it, or shasum'; fi
version=$(git config --file "$vault/config" --get vault.formatVersion 2>/dev/null)
case $version in
'' | 1) ;;
*) fail "$vault: of format $version, which a newer rescue.sh reads; this one reads 1" ;;
esac
unlimited=$(ulimit -S -f)
trap leave EXIT
trap 'exit 130' INT TERM HUP

case ${1-} in
list) if [ $# -ne 1 ]; then usage; fi; list ;;
restore) if [ $# -ne 3 ] || [ -z "$2" ] || [ -z "$3" ]; then usage; fi; restore "$2" "$3" ;;
*) usage ;;
esac
