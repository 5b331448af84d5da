/**
 * Files of RevokedHostKeys: a list of public keys, one on a line, or a key revocation list (KRL,
 * PROTOCOL.krl in OpenSSH's sources), which `ssh-keygen -k` makes.
 */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { MalformedDataError } from "./errors.ts";
import { type Certificate, parseCertificate, plainKeyOf } from "./key_certificate.ts";
import { isPublicKey, isSameKey, keyTypeOf } from "./public_key.ts";
import { displayText, Reader } from "./ssh_data.ts";

const krlMagic = Buffer.from("SSHKRL\n\0");
const krlFormatVersion = 1;

/** Types of a KRL's sections, and of those within one about certificates. */
const Section = {
  certificates: 1,
  explicitKey: 2,
  fingerprintSha1: 3,
  fingerprintSha256: 5,
  extension: 255,
  serialList: 0x20,
  serialRange: 0x21,
  serialBitmap: 0x22,
  keyId: 0x23,
  certificateExtension: 0x39,
} as const;

/**
 * Whether the content of such a file has a host's key. A certificate is revoked also where its
 * plain key is, or its authority's key.
 *
 * @throws {MalformedDataError} where the content is not understood to its end.
 */
export function isRevoked(content: Uint8Array, publicKey: Uint8Array): boolean {
  const certificate = parseCertificate(publicKey, "");
  const keys = certificate === undefined
    ? [publicKey]
    : [certificate.subjectKey, certificate.authorityKey];
  const isKrl = isSameKey(content.subarray(0, krlMagic.length), krlMagic);
  return isKrl ? isInKrl(content, keys, certificate) : isInList(content, keys);
}

function isInList(content: Uint8Array, keys: readonly Uint8Array[]): boolean {
  const lines = new TextDecoder().decode(content).split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "" && !line.startsWith("#")).map(readKey)
    .some((revoked) => keys.some((key) => isSameKey(key, revoked)));
}

/** The plain key of a line `type base64 comment`. */
function readKey(line: string): Uint8Array {
  const [type = "", base64 = ""] = line.split(/[ \t]+/);
  const key = Buffer.from(base64, "base64");
  const plain = plainKeyOf(key);
  const isKey = key.toString("base64") === base64 &&
    (plain === key ? isPublicKey(key, type) : keyTypeOf(key) === type);
  if (isKey) return plain;
  throw new MalformedDataError(`a line that is no public key: ${line.slice(0, 40)}`);
}

function isInKrl(
  content: Uint8Array,
  keys: readonly Uint8Array[],
  certificate: Certificate | undefined,
): boolean {
  const reader = new Reader(content, krlMagic.length);
  const version = reader.uint32();
  if (version !== krlFormatVersion) throw new MalformedDataError(`KRL format ${version}`);
  for (let number = 0; number < 3; number++) reader.uint64(); // Its version, date and flags.
  for (let text = 0; text < 2; text++) reader.bytes(); // Reserved, and a comment.
  const hashesOf = (name: string) => keys.map((key) => createHash(name).update(key).digest());
  let isFound = false;
  while (!reader.isAtEnd) {
    const type = reader.byte();
    const section = new Reader(reader.bytes());
    switch (type) {
      case Section.certificates:
        // All of it is read, whatever was found before.
        isFound = isInCertificates(section, certificate) || isFound;
        break;
      case Section.explicitKey:
        isFound = isAmong(section, keys) || isFound;
        break;
      case Section.fingerprintSha1:
        isFound = isAmong(section, hashesOf("sha1"), 20) || isFound;
        break;
      case Section.fingerprintSha256:
        isFound = isAmong(section, hashesOf("sha256"), 32) || isFound;
        break;
      case Section.extension:
        skipExtension(section);
        break;
      default:
        throw new MalformedDataError(`a KRL section of type ${type}`);
    }
  }
  return isFound;
}

/** @param length of each entry, where they are hashes. */
function isAmong(section: Reader, wanted: readonly Uint8Array[], length?: number): boolean {
  let isFound = false;
  while (!section.isAtEnd) {
    const entry = section.bytes();
    if (length !== undefined && entry.length !== length) throw new MalformedDataError("a hash");
    isFound ||= wanted.some((it) => isSameKey(it, entry));
  }
  return isFound;
}

/** Whether a section revokes a certificate, by its serial number or its key's name. */
function isInCertificates(section: Reader, certificate: Certificate | undefined): boolean {
  const authority = section.bytes();
  section.bytes(); // Reserved.
  const isOfAll = authority.length === 0;
  if (!isOfAll && !isPublicKey(authority, keyTypeOf(authority))) {
    throw new MalformedDataError("an authority's key");
  }
  let isFound = false;
  while (!section.isAtEnd) {
    const type = section.byte();
    const entries = new Reader(section.bytes());
    const { serials, keyIds } = readRevoked(type, entries);
    entries.end();
    if (certificate === undefined) continue;
    if (!isOfAll && !isSameKey(certificate.authorityKey, authority)) continue;
    const { serial, keyId } = certificate;
    // Authorities that count nothing give 0 to all.
    isFound ||= serial !== 0n && serials.some((has) => has(serial)) || keyIds.includes(keyId);
  }
  return isFound;
}

function readRevoked(
  type: number,
  entries: Reader,
): { serials: ((serial: bigint) => boolean)[]; keyIds: string[] } {
  const serials: ((serial: bigint) => boolean)[] = [];
  const keyIds: string[] = [];
  switch (type) {
    case Section.serialList:
      while (!entries.isAtEnd) {
        const revoked = entries.uint64();
        serials.push((serial) => serial === revoked);
      }
      break;
    case Section.serialRange: {
      const [first, last] = [entries.uint64(), entries.uint64()];
      serials.push((serial) => first <= serial && serial <= last);
      break;
    }
    case Section.serialBitmap: {
      const offset = entries.uint64();
      const bits = entries.bytes();
      serials.push((serial) => hasBit(bits, serial - offset));
      break;
    }
    case Section.keyId:
      while (!entries.isAtEnd) keyIds.push(displayText(entries.text()));
      break;
    case Section.certificateExtension:
      skipExtension(entries);
      break;
    default:
      throw new MalformedDataError(`a KRL section about certificates of type ${type}`);
  }
  return { serials, keyIds };
}

/** @param bits an mpint. */
function hasBit(bits: Uint8Array, index: bigint): boolean {
  if (index < 0n || index >= 8 * bits.length) return false;
  const at = Number(index);
  return (bits.at(-1 - (at >> 3))! >> (at & 7) & 1) === 1;
}

function skipExtension(section: Reader): void {
  const name = section.text();
  const isCritical = section.boolean();
  section.bytes();
  section.end();
  if (isCritical) throw new MalformedDataError(`a critical extension of a KRL: ${name}`);
}
