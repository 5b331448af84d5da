/**
 * Windows' own libraries, by Deno's foreign function interface, as far as Deno has no way of its own:
 * who may open a named pipe. They are loaded by whoever needs them, when he does.
 */

/** ACCESS_MASK: to read a token; to replace the list of who may do what. */
const tokenQuery = 0x0008;
const writeDac = 0x0004_0000;

const openExisting = 3;
const tokenUser = 1;
const daclInformation = 4;

/** TOKEN_USER at its longest: a pointer, attributes, and a SID of 15 numbers; in bytes. */
const tokenUserBytes = 16 + 68;

const kernel = {
  CloseHandle: { parameters: ["pointer"], result: "i32" },
  CreateFileW: {
    parameters: ["buffer", "u32", "u32", "pointer", "u32", "u32", "pointer"],
    result: "pointer",
  },
  GetCurrentProcess: { parameters: [], result: "pointer" },
  LocalFree: { parameters: ["pointer"], result: "pointer" },
} as const;

const security = {
  ConvertSidToStringSidW: { parameters: ["pointer", "buffer"], result: "i32" },
  ConvertStringSecurityDescriptorToSecurityDescriptorW: {
    parameters: ["buffer", "u32", "buffer", "pointer"],
    result: "i32",
  },
  GetTokenInformation: {
    parameters: ["pointer", "u32", "buffer", "u32", "buffer"],
    result: "i32",
  },
  OpenProcessToken: { parameters: ["pointer", "u32", "buffer"], result: "i32" },
  SetKernelObjectSecurity: { parameters: ["pointer", "u32", "pointer"], result: "i32" },
} as const;

/** What is called, and the order to undo what has to be undone. */
interface Windows {
  kernel: Deno.DynamicLibrary<typeof kernel>["symbols"];
  security: Deno.DynamicLibrary<typeof security>["symbols"];
  undo: (action: () => void) => void;
}

/**
 * Leaves a named pipe to its owner alone, all of its instances, those that come later too. Until then
 * others may not write to it: that is Windows' default.
 *
 * It is opened for that, so whoever listens gets one connection, which has ended.
 *
 * @throws {Error} where that cannot be done.
 */
export function keepPipeToOwner(name: string): void {
  using stack = new DisposableStack();
  const kernelLibrary = Deno.dlopen("kernel32.dll", kernel);
  stack.defer(() => kernelLibrary.close());
  const securityLibrary = Deno.dlopen("advapi32.dll", security);
  stack.defer(() => securityLibrary.close());
  const windows: Windows = {
    kernel: kernelLibrary.symbols,
    security: securityLibrary.symbols,
    undo: (action) => stack.defer(action),
  };
  const descriptor = ownersDescriptor(windows);
  const pipe = windows.kernel.CreateFileW(wide(name), writeDac, 0, null, openExisting, 0, null);
  // INVALID_HANDLE_VALUE is all ones.
  const isOpen = Deno.UnsafePointer.value(pipe) !== 0xffff_ffff_ffff_ffffn;
  check(isOpen ? 1 : 0, { action: "CreateFile" });
  windows.undo(() => windows.kernel.CloseHandle(pipe));
  check(windows.security.SetKernelObjectSecurity(pipe, daclInformation, descriptor), {
    action: "SetKernelObjectSecurity",
  });
}

/** A security descriptor by which the user whose process this is may do everything, and nobody else. */
function ownersDescriptor(windows: Windows): Deno.PointerValue {
  const user = userOfProcess(windows);
  const out = new BigUint64Array(1);
  const converted = windows.security.ConvertStringSecurityDescriptorToSecurityDescriptorW(
    wide(`D:P(A;;GA;;;${user})`),
    1,
    out,
    null,
  );
  return taken(windows, converted, { action: "ConvertStringSecurityDescriptor", out });
}

/** The user's SID as text. */
function userOfProcess(windows: Windows): string {
  const tokenOut = new BigUint64Array(1);
  const opened = windows.security.OpenProcessToken(
    windows.kernel.GetCurrentProcess(),
    tokenQuery,
    tokenOut,
  );
  check(opened, { action: "OpenProcessToken" });
  const token = Deno.UnsafePointer.create(tokenOut[0]!);
  windows.undo(() => windows.kernel.CloseHandle(token));
  const information = new Uint8Array(tokenUserBytes);
  const got = windows.security.GetTokenInformation(
    token,
    tokenUser,
    information,
    information.length,
    new Uint32Array(1),
  );
  check(got, { action: "GetTokenInformation" });
  // It begins with a pointer to the SID, which is further behind.
  const sid = Deno.UnsafePointer.create(new DataView(information.buffer).getBigUint64(0, true));
  const out = new BigUint64Array(1);
  const converted = windows.security.ConvertSidToStringSidW(sid, out);
  return textAt(taken(windows, converted, { action: "ConvertSidToStringSid", out }));
}

/** What a function has left in memory of its own, which is freed at the end. */
function taken(
  { kernel, undo }: Windows,
  result: number,
  { action, out }: { action: string; out: BigUint64Array },
): Deno.PointerValue {
  check(result, { action });
  const pointer = Deno.UnsafePointer.create(out[0]!);
  undo(() => kernel.LocalFree(pointer));
  return pointer;
}

function check(result: number, { action }: { action: string }): void {
  if (result === 0) throw new Error(`${action} failed`);
}

/** A text in UTF-16 with a NUL behind it. */
function wide(text: string): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(`${text}\0`, (unit) => unit.charCodeAt(0));
}

function textAt(pointer: Deno.PointerValue): string {
  if (pointer === null) return "";
  const view = new Deno.UnsafePointerView(pointer);
  let text = "";
  for (let at = 0;; at += 2) {
    const unit = view.getUint16(at);
    if (unit === 0) return text;
    text += String.fromCharCode(unit);
  }
}
