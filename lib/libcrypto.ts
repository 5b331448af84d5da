/**
 * OpenSSL's library, by Deno's foreign function interface, for packets alone: it encrypts them where
 * they lie, and knows the machine's vector instructions. ssh and sshd use it as well, so that it is
 * there on almost every Linux; whoever asks for it does without it elsewhere.
 */

const symbols = {
  EVP_CIPHER_fetch: { parameters: ["pointer", "buffer", "pointer"], result: "pointer" },
  EVP_CIPHER_CTX_new: { parameters: [], result: "pointer" },
  EVP_CipherInit_ex: {
    parameters: ["pointer", "pointer", "pointer", "buffer", "buffer", "i32"],
    result: "i32",
  },
  EVP_CipherUpdate: {
    parameters: ["pointer", "buffer", "buffer", "buffer", "i32"],
    result: "i32",
  },
  EVP_MAC_fetch: { parameters: ["pointer", "buffer", "pointer"], result: "pointer" },
  EVP_MAC_CTX_new: { parameters: ["pointer"], result: "pointer" },
  EVP_MAC_init: { parameters: ["pointer", "buffer", "usize", "pointer"], result: "i32" },
  EVP_MAC_update: { parameters: ["pointer", "buffer", "usize"], result: "i32" },
  EVP_MAC_final: { parameters: ["pointer", "buffer", "buffer", "usize"], result: "i32" },
} as const;

/** Version 3, the first with these calls. */
const libraryName = "libcrypto.so.3";

const keyBytes = 32;
const macBytes = 16;

/** What it does for a packet. */
export interface Libcrypto {
  /** ChaCha20, in place. @param start the number of the first block and the nonce, 16 bytes. */
  applyChaCha20(bytes: Uint8Array, key: Uint8Array, start: Uint8Array): void;
  /** Poly1305. @param mac where it is written, 16 bytes. */
  authenticate(bytes: Uint8Array, key: Uint8Array, mac: Uint8Array): void;
}

/** Loads the library; `undefined` where it cannot be had, or does not know the two. */
export function loadLibcrypto(): Libcrypto | undefined {
  if (Deno.build.os !== "linux") return undefined;
  try {
    return open();
  } catch {
    return undefined;
  }
}

/** Both contexts are there for as long as we are: each packet brings its own key and nonce. */
function open(): Libcrypto | undefined {
  const { symbols: calls } = Deno.dlopen(libraryName, symbols);
  const chaCha20 = calls.EVP_CIPHER_fetch(null, name("ChaCha20"), null);
  const poly1305 = calls.EVP_MAC_fetch(null, name("Poly1305"), null);
  if (chaCha20 === null || poly1305 === null) return undefined;
  const cipher = calls.EVP_CIPHER_CTX_new();
  const mac = calls.EVP_MAC_CTX_new(poly1305);
  if (cipher === null || mac === null) return undefined;
  const none = new Uint8Array(keyBytes);
  if (calls.EVP_CipherInit_ex(cipher, chaCha20, null, none, none, 1) !== 1) return undefined;
  const count = new Int32Array(1);
  const length = new BigUint64Array(1);
  return {
    applyChaCha20(bytes, key, start) {
      const isDone = calls.EVP_CipherInit_ex(cipher, null, null, own(key), own(start), 1) === 1 &&
        calls.EVP_CipherUpdate(cipher, own(bytes), count, own(bytes), bytes.length) === 1;
      if (!isDone || count[0] !== bytes.length) throw new Error("libcrypto does not encrypt");
    },
    authenticate(bytes, key, result) {
      const isDone = calls.EVP_MAC_init(mac, own(key), BigInt(keyBytes), null) === 1 &&
        calls.EVP_MAC_update(mac, own(bytes), BigInt(bytes.length)) === 1 &&
        calls.EVP_MAC_final(mac, own(result), length, BigInt(macBytes)) === 1;
      if (!isDone) throw new Error("libcrypto does not authenticate");
    },
  };
}

function name(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** None of our memory is shared with other threads. */
function own(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
