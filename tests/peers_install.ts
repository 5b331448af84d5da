/**
 * Makes sure that this machine has the SSH programs and libraries of `deno task peers`, beside
 * those of the tests: installs what is missing, or names it, as `install.ts` does.
 */

import {
  hasProgram,
  hasPrograms,
  installPackages,
  type Requirement,
  succeeds,
} from "./support/packages.ts";

const goSources = "/usr/share/gocode/src";

const requirements: Requirement[] = [
  { package: "openssh-sftp-server", brings: () => isFile("/usr/lib/openssh/sftp-server") },
  { package: "tinysshd", brings: () => hasPrograms("tinysshd tinysshd-makekey") },
  { package: "curl", brings: () => hasProgram("curl") },
  { package: "ruby", brings: () => succeeds("/usr/bin/ruby", "-v") },
  { package: "ruby-net-ssh", brings: () => hasRubyLibrary("net/ssh") },
  { package: "ruby-net-sftp", brings: () => hasRubyLibrary("net/sftp") },
  { package: "ruby-ed25519", brings: () => hasRubyLibrary("ed25519") },
  { package: "ruby-bcrypt-pbkdf", brings: () => hasRubyLibrary("bcrypt_pbkdf") },
  { package: "golang-go", brings: () => hasProgram("go") },
  {
    package: "golang-golang-x-crypto-dev",
    brings: () => isFile(`${goSources}/golang.org/x/crypto/ssh/client.go`),
  },
  {
    package: "golang-github-pkg-sftp-dev",
    brings: () => isFile(`${goSources}/github.com/pkg/sftp/client.go`),
  },
  {
    package: "golang-github-creack-pty-dev",
    brings: () => isFile(`${goSources}/github.com/creack/pty/pty_linux.go`),
  },
  { package: "gcc", brings: () => hasProgram("gcc") },
  { package: "libc6-dev", brings: () => isFile("/usr/include/stdio.h") },
  { package: "libssh-dev", brings: () => isFile("/usr/include/libssh/libssh.h") },
  { package: "libssh2-1-dev", brings: () => isFile("/usr/include/libssh2.h") },
  { package: "libjsch-java", brings: () => isFile("/usr/share/java/jsch.jar") },
  { package: "default-jdk-headless", brings: () => hasPrograms("java javac") },
];

function isFile(path: string): Promise<boolean> {
  return Deno.stat(path).then((info) => info.isFile, () => false);
}

function hasRubyLibrary(name: string): Promise<boolean> {
  return succeeds("/usr/bin/ruby", "-W0", "-r", name, "-e", "");
}

Deno.exit(await installPackages(requirements, "The peers"));
