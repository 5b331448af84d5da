/** bash's completion script, with destinations as one word. */

import { bash, type ShellCompletion } from "@optique/core/completion";

/**
 * bash ends words at `@` and `:` as well, and wants only what follows the last of them; what it
 * hands over as `$2` may begin with the `@`.
 */
const joining = `
_sshshim_joining () {
  local rest="$COMP_LINE" word previous="" joined="" i
  rest="\${rest:0:COMP_POINT}"
  local -a words=()
  for ((i=0; i<=COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    joined=""
    if (( i > 1 )) && [[ "$rest" != [[:space:]]* && ( "$word" == [@:]* || "$previous" == *[@:] ) ]]; then
      joined=1
    fi
    while [[ "$rest" == [[:space:]]* ]]; do rest="\${rest:1}"; done
    if (( i == COMP_CWORD )); then word="$rest"; fi
    if [[ -n "$joined" ]]; then
      words[\${#words[@]}-1]+="$word"
    else
      words+=("$word")
    fi
    rest="\${rest:\${#word}}"
    previous="$word"
  done
  local -a COMP_WORDS=("\${words[@]}")
  local COMP_CWORD=$(( \${#words[@]} - 1 ))
  _sshshim "$@"
  [[ -n "$joined" ]] || return 0
  local current="\${words[COMP_CWORD]}"
  local typed="\${current:0:\${#current}-\${#2}}"
  for i in "\${!COMPREPLY[@]}"; do COMPREPLY[i]="\${COMPREPLY[i]#"$typed"}"; done
}
if [[ $(type -t compopt) == builtin ]]; then
  complete -F _sshshim_joining -- sshshim
else
  complete -o filenames -F _sshshim_joining -- sshshim # Before bash 4.
fi
`;

/** As Optique's own, but for the words. */
export const bashCompletion: ShellCompletion = {
  ...bash,
  generateScript: (programName, args) => bash.generateScript(programName, args) + joining,
};
