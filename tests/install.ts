/**
 * Makes sure that this machine has the SSH programs that the tests compare with.
 *
 * As root on Debian and its relatives it installs what is missing; anywhere else it names the
 * missing packages and exits with 1, because tests that skip silently prove nothing.
 */

import {
  hasProgram,
  hasPrograms,
  hasPythonModule,
  installPackages,
  type Requirement,
  succeeds,
} from "./support/packages.ts";

const requirements: Requirement[] = [
  { package: "openssh-server", brings: () => hasProgram("sshd") },
  { package: "openssh-client", brings: () => hasPrograms("ssh sftp scp ssh-agent ssh-keygen") },
  { package: "putty-tools", brings: () => hasPrograms("plink psftp") },
  { package: "dropbear-bin", brings: () => hasPrograms("dbclient dropbear") },
  { package: "rsync", brings: () => hasProgram("rsync") },
  { package: "git", brings: () => hasProgram("git") },
  { package: "shellcheck", brings: () => hasProgram("shellcheck") },
  { package: "zip", brings: () => hasProgram("zip") },
  { package: "curl", brings: () => hasProgram("curl") },
  { package: "wget", brings: () => hasProgram("wget") },
  { package: "mandoc", brings: () => hasProgram("mandoc") },
  { package: "xauth", brings: () => hasProgram("xauth") },
  {
    package: "libpam-oath",
    brings: () => succeeds("/bin/sh", "-c", "ls /usr/lib/*/security/pam_oath.so"),
  },
  { package: "systemd", brings: () => hasProgram("systemd-analyze") },
  { package: "csh", brings: () => hasProgram("bsd-csh") },
  { package: "tcsh", brings: () => hasProgram("tcsh") },
  { package: "zsh", brings: () => hasProgram("zsh") },
  { package: "fish", brings: () => hasProgram("fish") },
  { package: "ansible-core", brings: () => hasProgram("ansible") },
  { package: "iproute2", brings: () => hasProgram("ip") },
  { package: "procps", brings: () => hasProgram("ps") },
  { package: "python3", brings: () => succeeds("/usr/bin/python3", "-V") },
  { package: "python3-yaml", brings: () => hasPythonModule("yaml") },
  { package: "python3-paramiko", brings: () => hasPythonModule("paramiko") },
  { package: "python3-asyncssh", brings: () => hasPythonModule("asyncssh") },
];

Deno.exit(await installPackages(requirements, "The tests"));
