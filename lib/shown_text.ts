/** Text from elsewhere, made safe to show: without what drives a terminal, and not too long. */

/** How much of a text is shown, in characters. */
const longestShown = 200;

/** The most bytes of a character in UTF-8. */
const characterBytes = 4;

const utf8 = new TextDecoder();

/**
 * Makes text from elsewhere safe to show: control characters, separators of lines and paragraphs
 * and the marks that turn the direction of writing become escapes such as `\n`, `\x1b`, `\u202e`.
 */
export function escapeControls(text: string): string {
  if (isPlain(text)) return text;
  return text.replace(controls, (character) => {
    const code = character.charCodeAt(0);
    if (code >= 0x100) return unicodeEscape(character);
    return shortEscapes.get(character) ?? `\\x${code.toString(16).padStart(2, "0")}`;
  });
}

/** The text safe to show, of `most` characters at most; what is cut off shows as `…`. */
export function shownText(text: string, most = longestShown): string {
  const escaped = escapeControls(text.slice(0, most + 1));
  return (escaped.length <= most ? escaped : `${escaped.slice(0, most - 1)}…`).toWellFormed();
}

/** The same of bytes in UTF-8; however long they are, no more than what is shown is kept. */
export function shownBytes(bytes: Uint8Array, most = longestShown): string {
  return shownText(utf8.decode(bytes.subarray(0, (most + 1) * characterBytes)), most);
}

/** JSON in which no such character is left: escapes of JSON take their place. */
export function escapeJson(json: string): string {
  return isPlain(json) ? json : json.replace(controls, unicodeEscape);
}

/** Whether there is nothing but what almost all texts have: that is found sooner. */
function isPlain(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

const controls = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;
const shortEscapes = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]]);

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
