# SPDX-License-Identifier: MIT
# Completion of qimg for fish. All answers come from the program itself.

# The value that the command line has for the option $argv[1].
function __qimg_option_value
    set -l words (commandline -opc)
    for i in (seq (count $words))
        if test "$words[$i]" = "$argv[1]"; and set -q words[(math $i + 1)]
            string replace -r '^~/' "$HOME/" -- $words[(math $i + 1)]
            return
        else if string match -q -- "$argv[1]=*" $words[$i]
            string replace -r '^[^=]*=' '' -- $words[$i] |
                string replace -r '^~/' "$HOME/"
            return
        end
    end
end

function __qimg_bitmaps
    set -l drive (__qimg_option_value --drive)
    set -l node (__qimg_option_value --node)
    if test -n "$drive"
        $argv[1] --complete bitmaps $drive 2>/dev/null
    else if test -n "$node"
        $argv[1] --complete node-bitmaps $node 2>/dev/null
    end
end

# Offer what `--complete` answered; $argv: the program, then the lines.
function __qimg_values
    for line in $argv[2..-1]
        switch $line
            case :file
                __fish_complete_path (commandline -ct)
            case :folder
                __fish_complete_directories (commandline -ct)
            case :bitmap
                __qimg_bitmaps $argv[1]
            case :point
                $argv[1] --complete points \
                    (__qimg_option_value --from) 2>/dev/null
            case :tag
                $argv[1] --complete tags \
                    (__qimg_option_value --drive) 2>/dev/null
            case '*'
                echo $line
        end
    end
end

function __qimg_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l qimg $words[1]
    set -l path
    for word in $words[2..-1]
        test (count $path) -lt 3
        and contains -- $word ($qimg --complete commands $path 2>/dev/null)
        or break
        set -a path $word
    end
    if set -q path[1]; and string match -q -- '-*' $words[-1]
        set -l lines ($qimg --complete values $path $words[-1] 2>/dev/null)
        if set -q lines[1]
            __qimg_values $qimg $lines
            return
        end
    end
    if string match -q -- '--*=*' $current; and set -q path[1]
        set -l option (string replace -r '=.*' '' -- $current)
        set -l lines ($qimg --complete values $path $option= 2>/dev/null)
        string match -q -v -- ':*' $lines
        and printf "$option=%s\n" $lines
        return
    end
    if string match -q -- '-*' $current
        $qimg --complete options-help $path 2>/dev/null
        return
    end
    if test (count $words) -eq (math (count $path) + 1)
        $qimg --complete commands-help $path 2>/dev/null
    end
    if set -q path[1]
        __qimg_values $qimg ($qimg --complete arguments $path 2>/dev/null)
    end
end

complete -c qimg -f -a '(__qimg_complete)'
