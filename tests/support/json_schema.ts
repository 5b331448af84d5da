/** Checks values against a JSON schema, as far as ours use it; a word that is not known throws. */

type Schema = Record<string, unknown>;

/** Words that demand nothing. */
const annotations = ["$schema", "$defs", "title", "description"];

/**
 * Tells what is wrong with a value, a line each. Stricter than the standard in one point: properties
 * that the schema does not name are faults.
 *
 * @param others schemas to which it refers, by the names of their files.
 */
export function faultsOf(
  value: unknown,
  root: Schema,
  others: Readonly<Record<string, Schema>> = {},
): string[] {
  const check = (value: unknown, schema: Schema, path: string): string[] =>
    Object.entries(schema).flatMap(([word, demand]) => {
      const object = typeOf(value) === "object" ? value as object : undefined;
      const fault = (isFine: boolean) => isFine ? [] : [`${path}: ${word} of ${show(value)}`];
      switch (word) {
        case "$ref":
          return demand as string in others
            ? faultsOf(value, others[demand as string]!, others).map((it) => `${path}${it}`)
            : check(value, defined(root, demand as string), path);
        case "type":
          return fault(typeOf(value) === demand || (demand === "number" && isInteger(value)));
        case "const":
          return fault(value === demand);
        case "enum":
          return fault((demand as unknown[]).includes(value));
        case "pattern":
          return fault(typeof value !== "string" || new RegExp(demand as string, "u").test(value));
        case "maxLength":
          return fault(typeof value !== "string" || [...value].length <= (demand as number));
        case "minimum":
          return fault(typeof value !== "number" || value >= (demand as number));
        case "maximum":
          return fault(typeof value !== "number" || value <= (demand as number));
        case "maxItems":
          return fault(!Array.isArray(value) || value.length <= (demand as number));
        case "items":
          return Array.isArray(value)
            ? value.flatMap((item, at) => check(item, demand as Schema, `${path}/${at}`))
            : [];
        case "required":
          return (demand as string[]).filter((name) => object && !Object.hasOwn(object, name))
            .map((name) => `${path}: ${name} is missing`);
        case "properties":
          return Object.entries(object ?? {}).flatMap(([name, item]) => {
            const its = (demand as Record<string, Schema>)[name];
            return its ? check(item, its, `${path}/${name}`) : [`${path}: ${name} is not known`];
          });
        case "anyOf":
        case "oneOf": {
          const results = (demand as Schema[]).map((one) => check(value, one, path));
          const fine = results.filter((faults) => faults.length === 0).length;
          if (word === "anyOf" ? fine > 0 : fine === 1) return [];
          return [`${path}: ${word} of ${show(value)}`, ...results.flat()];
        }
        default:
          if (!annotations.includes(word)) throw new Error(`the schema has ${word}`);
          return [];
      }
    });
  return check(value, root, "");
}

function defined(root: Schema, reference: string): Schema {
  const name = reference.replace(/^#\/\$defs\//, "");
  const found = (root.$defs as Record<string, Schema>)[name];
  if (found === undefined) throw new Error(`the schema has no ${reference}`);
  return found;
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return isInteger(value) ? "integer" : typeof value;
}

function isInteger(value: unknown): boolean {
  return Number.isInteger(value);
}

function show(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 100);
}
