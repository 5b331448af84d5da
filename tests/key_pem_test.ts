import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { generateKeyPairSync } from "node:crypto";
import { AuthenticationError } from "../lib/errors.ts";
import { encodeDer, Tag } from "../lib/key_der.ts";
import { readKeyFile } from "../lib/key_file.ts";
import { run } from "./support/run.ts";
import { withFolder } from "./support/signing.ts";

const sec1Label = "EC PRIVATE KEY";
const pkcs8Label = "PRIVATE KEY";

const jwk = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });
const [scalar, x, y] = [jwk.d, jwk.x, jwk.y].map((text) => Buffer.from(text!, "base64url"));

const hex = (text: string): Uint8Array => Buffer.from(text.replaceAll(" ", ""), "hex");

/** A value whose length is written as the test says. */
function withLength(tag: number, length: string, content: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(tag), hex(length), content]);
}

/** The length of fewer than 128 bytes in the given number of bytes behind the first. */
function longLength(content: Uint8Array, bytes: number): string {
  return `8${bytes}` + content.length.toString(16).padStart(2 * bytes, "0");
}

const integer = (text: string) => encodeDer(Tag.integer, hex(text));
const identifier = (text: string) => encodeDer(Tag.objectIdentifier, hex(text));
const curve = identifier("2a8648ce3d030107");
const bits = encodeDer(Tag.bitString, Uint8Array.of(0, 4), x!, y!);
const extra = integer("01");

const sec1Values = {
  version: integer("01"),
  secret: encodeDer(Tag.octetString, scalar!),
  curve: encodeDer(Tag.context(0), curve),
  point: encodeDer(Tag.context(1), bits),
};

function sec1Content(changed: Partial<typeof sec1Values> = {}, ...more: Uint8Array[]): Uint8Array {
  return Buffer.concat([...Object.values({ ...sec1Values, ...changed }), ...more]);
}

function sec1(changed: Partial<typeof sec1Values> = {}, ...more: Uint8Array[]): Uint8Array {
  return encodeDer(Tag.sequence, sec1Content(changed, ...more));
}

const pkcs8Values = {
  version: integer("00"),
  algorithm: encodeDer(Tag.sequence, identifier("2a8648ce3d0201"), curve),
  key: encodeDer(Tag.octetString, sec1({ curve: new Uint8Array() })),
};

function pkcs8(changed: Partial<typeof pkcs8Values> = {}, ...more: Uint8Array[]): Uint8Array {
  return encodeDer(Tag.sequence, ...Object.values({ ...pkcs8Values, ...changed }), ...more);
}

function algorithm(...values: Uint8Array[]): { algorithm: Uint8Array } {
  return { algorithm: encodeDer(Tag.sequence, ...values) };
}

/** Names a curve by bytes that may be no object identifier. */
const curveOf = (text: string) => ({ curve: encodeDer(Tag.context(0), identifier(text)) });

type Cases = Record<string, [label: string, der: Uint8Array]>;

const taken: Cases = {
  "SEC1": [sec1Label, sec1()],
  "PKCS#8": [pkcs8Label, pkcs8()],
  "a length in more bytes than it needs": [
    sec1Label,
    withLength(Tag.sequence, longLength(sec1Content(), 4), sec1Content()),
  ],
  "the same within": [
    sec1Label,
    sec1({ secret: withLength(Tag.octetString, longLength(scalar!, 2), scalar!) }),
  ],
  "bytes behind the key": [sec1Label, Buffer.concat([sec1(), hex("000102")])],
  "attributes": [pkcs8Label, pkcs8({}, encodeDer(Tag.context(0)))],
};

const refused: Cases = {
  "a value behind the last": [sec1Label, sec1({}, extra)],
  "a value behind the curve": [
    sec1Label,
    sec1({ curve: encodeDer(Tag.context(0), curve, extra) }),
  ],
  "a value behind the point": [
    sec1Label,
    sec1({ point: encodeDer(Tag.context(1), bits, extra) }),
  ],
  "a value behind the key in PKCS#8": [pkcs8Label, pkcs8({}, extra)],
  "a value behind the algorithm": [
    pkcs8Label,
    pkcs8(algorithm(identifier("2a8648ce3d0201"), curve, extra)),
  ],
  "a number with a zero too many": [sec1Label, sec1({ version: integer("0001") })],
  "a number without bytes": [pkcs8Label, pkcs8({ version: integer("") })],
  "a curve with a zero too many": [sec1Label, sec1(curveOf("2a8648ce3d03018007"))],
  "a curve that breaks off": [sec1Label, sec1(curveOf("2a8648ce3d03010781"))],
  "a curve that is another's by 2^32": [sec1Label, sec1(curveOf("2a8648ce3d03019080808007"))],
  "a length beyond the end": [
    sec1Label,
    withLength(Tag.sequence, longLength(Buffer.concat([sec1Content(), extra]), 1), sec1Content()),
  ],
  "a length of nearly 2^32": [
    sec1Label,
    sec1({ secret: withLength(Tag.octetString, "84 ffffffff", scalar!) }),
  ],
  "a length before the end": [
    sec1Label,
    withLength(Tag.sequence, longLength(sec1Content().subarray(1), 1), sec1Content()),
  ],
};

/** No DER, which some versions of OpenSSL read all the same. */
const refusedHere: Cases = {
  "an indefinite length": [
    sec1Label,
    withLength(Tag.sequence, "80", Buffer.concat([sec1Content(), hex("0000")])),
  ],
  "a length in five bytes": [
    sec1Label,
    withLength(Tag.sequence, longLength(sec1Content(), 5), sec1Content()),
  ],
  "a negative number": [pkcs8Label, pkcs8({ version: integer("ff") })],
  "a version that is not 1": [sec1Label, sec1({ version: integer("02") })],
};

const groups = { taken, refused, refusedHere };
const titles = {
  taken: "a key in PEM is taken where ssh-keygen takes it",
  refused: "a key in PEM is refused where ssh-keygen refuses it",
  refusedHere: "what is no DER is refused, whatever ssh-keygen does",
};

for (const [verdict, cases] of Object.entries(groups)) {
  Deno.test(titles[verdict as keyof typeof titles], () =>
    withFolder(async (folder) => {
      for (const [name, [label, der]] of Object.entries(cases)) {
        const file = `${folder}/${name.replaceAll(/\W/g, "-")}`;
        const base64 = Buffer.from(der).toString("base64").match(/.{1,64}/g)!.join("\n");
        const text = `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----\n`;
        await Deno.writeTextFile(file, text, { mode: 0o600 });
        if (verdict !== "refusedHere") {
          const { code } = await run(["ssh-keygen", "-y", "-f", file]);
          assert.equal(code === 0, verdict === "taken", name);
        }
        const unlocked = readKeyFile(file).then((keyFile) => keyFile.unlock());
        if (verdict === "taken") await unlocked;
        else await assert.rejects(unlocked, AuthenticationError, name);
      }
    }));
}
