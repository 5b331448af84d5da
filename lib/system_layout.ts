/**
 * Numbers and structures of the C library on the systems where we call it, as their headers have them.
 * Deno runs on machines of 64 bits alone, and all of them are little-endian.
 *
 * Those of macOS are from its headers, and nobody has tried them: `stream_check.ts` does when it
 * starts there.
 */

/** Where an integer is in a structure, and how long it is; in bytes. */
interface Place {
  at: number;
  bytes: 4 | 8;
}

/** What getsockopt(2) is asked for, and which integer of the answer it is. */
interface SocketFact {
  option: number;
  index: number;
}

/** One system. */
export interface SystemLayout {
  /** By which names the library goes. */
  libraries: readonly string[];
  /** Names of functions that are called otherwise, or do the same with an argument less. */
  names: { accept: string; pipe: string; errno: string; fstat: string; select: string };
  /** Flags of open(2), of pipes and of sockets. */
  open: { nonBlocking: number; notControlling: number; closedOnExec: number };
  /** Whether sockets, pipes and what is passed can be had with these flags at once. */
  setsFlagsAtOnce: boolean;
  /** Whether poll(2) does not know terminals, and select(2) is asked instead. */
  waitsBySelect: boolean;
  /** Flags of send(2) and recvmsg(2); 0 where there is none. */
  message: { withoutWaiting: number; withoutSignal: number; passedClosedOnExec: number };
  errors: { wouldBlock: number; interrupted: number };
  socketLevel: number;
  passedDescriptors: number;
  /** Of struct msghdr. */
  messageHeader: {
    size: number;
    buffers: number;
    bufferCount: Place;
    control: number;
    controlLength: Place;
  };
  /** Of struct cmsghdr. */
  controlHeader: { size: number; length: Place; level: number; type: number; alignment: number };
  /** Of struct sockaddr_un: whether its length comes first, and how long a path may be. */
  socketAddress: { hasLength: boolean; pathBytes: number };
  credentials: { level: number; pid: SocketFact; uid: SocketFact };
  /** Requests of ioctl(2) for a terminal's dimensions. */
  windowSize: { get: number; set: number };
}

/** Linux with glibc or musl. */
export const linuxLayout: SystemLayout = {
  libraries: [
    "libc.so.6",
    `libc.musl-${Deno.build.arch}.so.1`,
    `/lib/ld-musl-${Deno.build.arch}.so.1`,
  ],
  names: {
    ...{ accept: "accept4", pipe: "pipe2", errno: "__errno_location" },
    ...{ fstat: "fstat", select: "select" },
  },
  open: { nonBlocking: 0o4000, notControlling: 0o400, closedOnExec: 0o2000000 },
  setsFlagsAtOnce: true,
  waitsBySelect: false,
  message: { withoutWaiting: 0x40, withoutSignal: 0x4000, passedClosedOnExec: 0x40000000 },
  errors: { wouldBlock: 11, interrupted: 4 },
  socketLevel: 1,
  passedDescriptors: 1,
  messageHeader: {
    ...{ size: 56, buffers: 16, bufferCount: { at: 24, bytes: 8 } },
    ...{ control: 32, controlLength: { at: 40, bytes: 8 } },
  },
  controlHeader: { size: 16, length: { at: 0, bytes: 8 }, level: 8, type: 12, alignment: 8 },
  socketAddress: { hasLength: false, pathBytes: 108 },
  credentials: { level: 1, pid: { option: 17, index: 0 }, uid: { option: 17, index: 1 } },
  windowSize: { get: 0x5413, set: 0x5414 },
};

/** macOS: libSystem, 10.14 and newer. */
export const macLayout: SystemLayout = {
  libraries: ["/usr/lib/libSystem.B.dylib"],
  names: {
    ...{ accept: "accept", pipe: "pipe", errno: "__error" },
    fstat: Deno.build.arch === "x86_64" ? "fstat$INODE64" : "fstat",
    select: "select$DARWIN_EXTSN",
  },
  open: { nonBlocking: 0x4, notControlling: 0x20000, closedOnExec: 0x1000000 },
  setsFlagsAtOnce: false,
  waitsBySelect: true,
  message: { withoutWaiting: 0x80, withoutSignal: 0, passedClosedOnExec: 0 },
  errors: { wouldBlock: 35, interrupted: 4 },
  socketLevel: 0xffff,
  passedDescriptors: 1,
  messageHeader: {
    ...{ size: 48, buffers: 16, bufferCount: { at: 24, bytes: 4 } },
    ...{ control: 32, controlLength: { at: 40, bytes: 4 } },
  },
  controlHeader: { size: 12, length: { at: 0, bytes: 4 }, level: 4, type: 8, alignment: 4 },
  socketAddress: { hasLength: true, pathBytes: 104 },
  credentials: { level: 0, pid: { option: 2, index: 0 }, uid: { option: 1, index: 1 } },
  windowSize: { get: 0x40087468, set: 0x80087467 },
};

/** That of this system; `undefined` where there is none. */
export function systemLayout(): SystemLayout | undefined {
  return { linux: linuxLayout, darwin: macLayout }[Deno.build.os as string];
}

/** The address of a unix socket: an absolute path, or on Linux a name after `@` (unix(7)). */
export function socketAddress(
  { socketAddress: { hasLength, pathBytes } }: SystemLayout,
  path: string,
): Uint8Array<ArrayBuffer> {
  const unix = 1;
  const name = new TextEncoder().encode(path);
  if (name.length >= pathBytes) throw new Error("its path is too long");
  if (path.startsWith("@")) name[0] = 0;
  const address = new Uint8Array(2 + name.length + (path.startsWith("@") ? 0 : 1));
  // On Linux the family has both bytes; it is below 256.
  address.set(hasLength ? [address.length, unix] : [unix, 0]);
  address.set(name, 2);
  return address;
}

/** What recvmsg(2) and sendmsg(2) are given: one buffer, and room for what comes along. */
export function messageHeader(
  { messageHeader: layout }: SystemLayout,
  { vector, control, controlLength }: { vector: bigint; control: bigint; controlLength: number },
): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(layout.size);
  const view = new DataView(header.buffer);
  view.setBigUint64(layout.buffers, vector, true);
  putInteger(view, layout.bufferCount, 1);
  view.setBigUint64(layout.control, control, true);
  putInteger(view, layout.controlLength, controlLength);
  return header;
}

/** How much control data there is, as recvmsg(2) has left it. */
export function controlLength({ messageHeader }: SystemLayout, header: Uint8Array): number {
  return getInteger(viewOf(header), messageHeader.controlLength);
}

/** The control data that passes descriptors. */
export function passingControl(
  layout: SystemLayout,
  descriptors: readonly number[],
): Uint8Array<ArrayBuffer> {
  const { controlHeader, socketLevel, passedDescriptors } = layout;
  const length = controlHeader.size + descriptors.length * 4;
  // It is filled up; the length that it says is without that.
  const { alignment } = controlHeader;
  const control = new Uint8Array(Math.ceil(length / alignment) * alignment);
  const view = viewOf(control);
  putInteger(view, controlHeader.length, length);
  view.setInt32(controlHeader.level, socketLevel, true);
  view.setInt32(controlHeader.type, passedDescriptors, true);
  descriptors.forEach((it, index) => view.setInt32(controlHeader.size + index * 4, it, true));
  return control;
}

/** The descriptors of control data. */
export function passedIn(layout: SystemLayout, control: Uint8Array): number[] {
  const { controlHeader, socketLevel, passedDescriptors } = layout;
  if (control.length <= controlHeader.size) return [];
  const view = viewOf(control);
  const isPassed = view.getInt32(controlHeader.level, true) === socketLevel &&
    view.getInt32(controlHeader.type, true) === passedDescriptors;
  const length = Math.min(getInteger(view, controlHeader.length), control.length);
  const descriptors: number[] = [];
  for (let at = controlHeader.size; isPassed && at + 4 <= length; at += 4) {
    descriptors.push(view.getInt32(at, true));
  }
  return descriptors;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function putInteger(view: DataView, { at, bytes }: Place, value: number): void {
  if (bytes === 4) view.setUint32(at, value, true);
  else view.setBigUint64(at, BigInt(value), true);
}

function getInteger(view: DataView, { at, bytes }: Place): number {
  return bytes === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
}
