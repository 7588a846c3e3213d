# SPDX-License-Identifier: MIT
# Completion of qimg for bash. All answers come from the program itself.

# _qimg_values KIND-LINE...: complete $cur from what `--complete` answered
_qimg_values() {
	local line
	for line; do
		case $line in
		:file) compopt -o filenames 2>/dev/null
			mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY \
				< <(compgen -f -- "$cur") ;;
		:folder) compopt -o filenames 2>/dev/null
			mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY \
				< <(compgen -d -- "$cur") ;;
		:bitmap) _qimg_bitmaps ;;
		:point) _qimg_asked points from ;;
		:tag) _qimg_asked tags drive ;;
		*) [[ $line == "$cur"* ]] && COMPREPLY+=("$line") ;;
		esac
	done
}

# _qimg_option_value NAME: the value that the command line has for --NAME
_qimg_option_value() {
	local i word
	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == "--$1" ]] || continue
		[[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
		# As typed: quotes and the home folder are not resolved yet.
		word=${COMP_WORDS[i + 1]//[\\\'\"]/}
		printf '%s\n' "${word/#\~\//$HOME/}"
		return
	done
}

_qimg_bitmaps() {
	local drive node lines
	drive=$(_qimg_option_value drive)
	node=$(_qimg_option_value node)
	if [[ $drive ]]; then
		mapfile -t lines < <("$qimg" --complete bitmaps "$drive" \
			2>/dev/null)
	elif [[ $node ]]; then
		mapfile -t lines < <("$qimg" --complete node-bitmaps "$node" \
			2>/dev/null)
	fi
	_qimg_values "${lines[@]}"
}

# _qimg_asked KIND OPTION: what the program finds at the path of --OPTION
_qimg_asked() {
	local lines
	mapfile -t lines < <("$qimg" --complete "$1" \
		"$(_qimg_option_value "$2")" 2>/dev/null)
	_qimg_values "${lines[@]}"
}

_qimg() {
	local qimg=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]}
	local prev=${COMP_WORDS[COMP_CWORD - 1]} command=() lines words i
	COMPREPLY=()

	# --name=value comes as three words, and --name= as two
	if [[ $cur == = ]]; then
		cur=
		prev+='='
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}=
	fi
	for ((i = 1; i < COMP_CWORD && ${#command[@]} < 3; i++)); do
		mapfile -t words < <("$qimg" --complete commands \
			"${command[@]}" 2>/dev/null)
		[[ " ${words[*]} " == *" ${COMP_WORDS[i]} "* ]] || break
		command+=("${COMP_WORDS[i]}")
	done

	if [[ $prev == -* && ${#command[@]} -gt 0 ]]; then
		mapfile -t lines < <("$qimg" --complete values \
			"${command[@]}" "$prev" 2>/dev/null)
		_qimg_values "${lines[@]}"
		((${#COMPREPLY[@]})) && return
	fi
	if [[ $cur == -* ]]; then
		mapfile -t lines < <("$qimg" --complete options \
			"${command[@]}" 2>/dev/null)
		_qimg_values "${lines[@]}"
		return
	fi
	if ((COMP_CWORD == ${#command[@]} + 1)); then
		mapfile -t lines < <("$qimg" --complete commands \
			"${command[@]}" 2>/dev/null)
		_qimg_values "${lines[@]}"
	fi
	if ((${#command[@]})); then
		mapfile -t lines < <("$qimg" --complete arguments \
			"${command[@]}" 2>/dev/null)
		_qimg_values "${lines[@]}"
	fi
}

complete -F _qimg qimg
