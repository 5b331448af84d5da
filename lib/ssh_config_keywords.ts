/**
 * The keywords of ssh_config(5): what sshshim follows, passes over and refuses.
 *
 * A keyword is refused where sshshim, without it, would trust more than ssh does by default or
 * connect another way. Keywords of every kind have their values checked, so that a file is either
 * good for both or for neither.
 */

import { proxyJump } from "./ssh_config_proxy.ts";
import {
  algorithms,
  anything,
  choice,
  command,
  domains,
  flag,
  flagOr,
  integer,
  namePairs,
  port,
  seconds,
  type ValueReader,
  word,
  words,
} from "./ssh_config_values.ts";

/** What becomes of a keyword. */
export type Keyword =
  & {
    /** As its manual page writes it. */
    name: string;
    read: ValueReader;
  }
  & (
    | { kind: "followed" }
    | { kind: "ignored"; reason: string }
    | Unfollowed & { kind: "refused" }
  );

/** A keyword without which sshshim does less than ssh. */
interface Unfollowed {
  reason: string;
  /** The value that switches it off; absent if there is none. */
  off?: string;
  /** The only way to the host that it concerns. */
  way?: "command";
  /** What to do, if it is not to switch it off. */
  help?: string;
}

/** The keyword of a name in lower case, also under an older name; undefined if there is none. */
export function findKeyword(name: string): Keyword | undefined {
  return keywords.get(olderNames[name] ?? name);
}

const followed: Readonly<Record<string, ValueReader>> = {
  AddressFamily: choice({ any: "any", inet: "inet", inet6: "inet6" }),
  BatchMode: flag,
  BindAddress: word,
  BindInterface: word,
  CanonicalDomains: domains,
  CanonicalizeFallbackLocal: flag,
  CanonicalizeHostname: flagOr("always"),
  CanonicalizeMaxDots: integer,
  CanonicalizePermittedCNAMEs: namePairs,
  CASignatureAlgorithms: algorithms,
  CertificateFile: word,
  CheckHostIP: flag,
  Ciphers: algorithms,
  ConnectionAttempts: integer,
  ConnectTimeout: seconds,
  GlobalKnownHostsFile: words,
  HashKnownHosts: flag,
  HostKeyAlgorithms: algorithms,
  HostKeyAlias: word,
  HostName: word,
  IdentitiesOnly: flag,
  IdentityAgent: word,
  IdentityFile: word,
  IgnoreUnknown: word,
  KbdInteractiveAuthentication: flag,
  KexAlgorithms: algorithms,
  KnownHostsCommand: command,
  MACs: algorithms,
  NumberOfPasswordPrompts: integer,
  PasswordAuthentication: flag,
  Port: port,
  PreferredAuthentications: word,
  ProxyCommand: command,
  ProxyJump: proxyJump,
  PubkeyAcceptedAlgorithms: algorithms,
  PubkeyAuthentication: flagOr("unbound", "host-bound"),
  RequiredRSASize: integer,
  RevokedHostKeys: words,
  ServerAliveCountMax: integer,
  ServerAliveInterval: seconds,
  StrictHostKeyChecking: choice({
    yes: "yes",
    no: "no",
    ask: "ask",
    "accept-new": "accept-new",
    off: "no",
    true: "yes",
    false: "no",
  }),
  Tag: word,
  UpdateHostKeys: flagOr("ask"),
  User: word,
  UserKnownHostsFile: words,
};

const ignored: Readonly<Record<string, Readonly<Record<string, ValueReader>>>> = {
  "the client at the local port has its own": {
    ChannelTimeout: anything,
    ClearAllForwardings: flag,
    ControlMaster: flagOr("ask", "auto", "autoask"),
    ControlPath: word,
    ControlPersist: anything,
    DynamicForward: anything,
    EnableEscapeCommandline: flag,
    EscapeChar: anything,
    ExitOnForwardFailure: flag,
    ForkAfterAuthentication: flag,
    ForwardAgent: word,
    ForwardX11: flag,
    ForwardX11Timeout: seconds,
    ForwardX11Trusted: flag,
    GatewayPorts: flag,
    IPQoS: anything,
    LocalCommand: command,
    LocalForward: anything,
    ObscureKeystrokeTiming: anything,
    PermitLocalCommand: flag,
    PermitRemoteOpen: anything,
    RemoteCommand: command,
    RemoteForward: anything,
    RequestTTY: flagOr("auto", "force"),
    SendEnv: anything,
    SessionType: choice({ none: "none", subsystem: "subsystem", default: "default" }),
    SetEnv: anything,
    StdinNull: flag,
    StreamLocalBindMask: anything,
    StreamLocalBindUnlink: flag,
    Tunnel: flagOr("ethernet", "point-to-point"),
    TunnelDevice: anything,
    XAuthLocation: word,
  },
  "sshshim has its own way": {
    Compression: flag,
    FingerprintHash: word,
    LogLevel: word,
    LogVerbose: anything,
    RekeyLimit: anything,
    SyslogFacility: word,
    TCPKeepAlive: flag,
    VersionAddendum: anything,
    VisualHostKey: flag,
    WarnWeakCrypto: flagOr("no-pq-kex"),
  },
  "sshshim does not do this": {
    AddKeysToAgent: anything,
    EnableSSHKeysign: flag,
    UseKeychain: anything,
  },
  "sshshim does not have this way to log in": {
    GSSAPIAuthentication: flag,
    GSSAPIClientIdentity: anything,
    GSSAPIDelegateCredentials: flag,
    GSSAPIKexAlgorithms: anything,
    GSSAPIKeyExchange: flag,
    GSSAPIRenewalForcesRekey: flag,
    GSSAPIServerIdentity: anything,
    GSSAPITrustDns: flag,
    HostbasedAcceptedAlgorithms: algorithms,
    HostbasedAuthentication: flag,
    KbdInteractiveDevices: word,
    PKCS11Provider: word,
    SecurityKeyProvider: word,
  },
  "host keys are checked against known_hosts alone, which is stricter": {
    NoHostAuthenticationForLocalhost: flag,
    VerifyHostKeyDNS: flagOr("ask"),
  },
  "it is obsolete": {
    AFSTokenPassing: anything,
    Cipher: anything,
    CompressionLevel: anything,
    FallBackToRsh: anything,
    GlobalKnownHostsFile2: anything,
    KerberosAuthentication: anything,
    KerberosTGTPassing: anything,
    Protocol: anything,
    RhostsAuthentication: anything,
    RhostsRSAAuthentication: anything,
    RSAAuthentication: anything,
    SetupTimeOut: anything,
    UsePrivilegedPort: anything,
    UserKnownHostsFile2: anything,
    UseRoaming: anything,
    UseRsh: anything,
  },
};

const unfollowed: readonly Keyword[] = [
  {
    kind: "refused",
    name: "ProxyUseFdpass",
    read: flag,
    reason: "sshshim takes no connection over from the ProxyCommand",
    off: "no",
    way: "command",
    help: "Use a command that carries the data, such as nc %h %p without -F, and add " +
      "-o ProxyUseFdpass=no.",
  },
  {
    kind: "refused",
    name: "RefuseConnection",
    read: word,
    reason: "the configuration does not want this connection",
  },
];

/** Older names, and those of some systems. */
const olderNames: Readonly<Record<string, string>> = {
  challengeresponseauthentication: "kbdinteractiveauthentication",
  dsaauthentication: "pubkeyauthentication",
  hostbasedkeytypes: "hostbasedacceptedalgorithms",
  identityfile2: "identityfile",
  keepalive: "tcpkeepalive",
  protocolkeepalives: "serveraliveinterval",
  pubkeyacceptedkeytypes: "pubkeyacceptedalgorithms",
  rsaminsize: "requiredrsasize",
  skeyauthentication: "kbdinteractiveauthentication",
  smartcarddevice: "pkcs11provider",
  tisauthentication: "kbdinteractiveauthentication",
};

const keywords: ReadonlyMap<string, Keyword> = new Map(
  [
    ...Object.entries(followed).map(([name, read]): Keyword => ({ kind: "followed", name, read })),
    ...Object.entries(ignored).flatMap(([reason, readers]) =>
      Object.entries(readers).map(([name, read]): Keyword => ({
        kind: "ignored",
        name,
        read,
        reason,
      }))
    ),
    ...unfollowed,
  ].map((keyword) => [keyword.name.toLowerCase(), keyword]),
);
