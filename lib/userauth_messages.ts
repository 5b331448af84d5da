/**
 * Message numbers around authentication (RFC 4250, section 4.1.2), on either side, and what a
 * server's answers say.
 */

import { displayText, Reader } from "./ssh_data.ts";

export const serviceRequest = 5;
export const serviceAccept = 6;
export const userauthRequest = 50;
export const userauthFailure = 51;
export const userauthSuccess = 52;
export const userauthBanner = 53;

/** From here on up to the connection protocol's they mean what the method makes of them. */
export const firstMethodMessage = 60;

/** Messages of keyboard-interactive (RFC 4256, section 5). */
export const userauthInfoRequest = 60;
export const userauthInfoResponse = 61;

/** Messages of the connection protocol begin here (RFC 4250, section 4.1.1). */
export const firstConnectionMessage = 80;

/** SSH_MSG_USERAUTH_FAILURE. */
export interface Failure {
  methods: string[];
  isPartial: boolean;
}

/** What a server asks by keyboard-interactive. */
export interface InfoRequest {
  name: string;
  instruction: string;
  prompts: readonly { text: string; echo: boolean }[];
}

/** @throws {MalformedDataError} where it is cut short. */
export function readFailure(payload: Uint8Array): Failure {
  const reader = new Reader(payload, 1);
  return { methods: reader.text().split(",").filter(Boolean), isPartial: reader.boolean() };
}

/** @throws {MalformedDataError} where it is cut short. */
export function readInfoRequest(payload: Uint8Array): InfoRequest {
  const reader = new Reader(payload, 1);
  const name = displayText(reader.text());
  const instruction = displayText(reader.text());
  reader.text(); // The language tag, deprecated by RFC 4256.
  const prompts: { text: string; echo: boolean }[] = [];
  for (let left = reader.uint32(); left > 0; left--) {
    prompts.push({ text: displayText(reader.text()), echo: reader.boolean() });
  }
  return { name, instruction, prompts };
}
