/** Configurations in the manner of those that people publish, and what ssh makes of them. */

import { assertSameAsSsh, type ConfigCase } from "./support/ssh_g.ts";

interface PublishedCase extends Omit<ConfigCase, "destination"> {
  what: string;
  /** Which hosts are asked for. */
  to: string[];
  /** Keywords that may come out in another way, each with the reason. */
  differs?: Readonly<Record<string, string>>;
}

const cases: PublishedCase[] = [
  {
    what: "a few hosts, indented, with comments and blank lines",
    to: ["web", "db", "git.example.org", "other"],
    config: `# personal machines

Host web
    HostName web01.example.org
    User deploy            # not root
    Port 2222

  Host db
	HostName 10.20.30.40
	User postgres
	IdentityFile ~/.ssh/id_db

Host *
    ServerAliveInterval 60
    ServerAliveCountMax 3
`,
  },
  {
    what: "a forge with its own key, and nothing else offered",
    to: ["git@github.example", "github.example", "work.github.example"],
    config: `Host github.example
  User git
  HostName github.example
  PreferredAuthentications publickey
  IdentityFile ~/.ssh/github_ed25519
  IdentitiesOnly yes

Host work.github.example
  HostName github.example
  User git
  IdentityFile ~/.ssh/work_ed25519
  IdentitiesOnly yes
`,
  },
  {
    what: "a corporate bastion with ProxyJump for everything inside",
    to: ["bastion", "app1.int.corp.example", "bastion.corp.example", "elsewhere"],
    config: `Host bastion bastion.corp.example
  HostName bastion.corp.example
  User jdoe
  ProxyJump none
  ControlMaster auto
  ControlPath ~/.ssh/cm-%r@%h:%p
  ControlPersist 10m

Host *.int.corp.example 10.42.*
  User svc-deploy
  ProxyJump bastion
  StrictHostKeyChecking accept-new
`,
  },
  {
    what: "the bastion itself left out by a negation",
    to: ["gw.corp.example", "a.corp.example", "me@b.corp.example"],
    config: `Host *.corp.example !gw.corp.example
  ProxyJump ops@gw.corp.example:2222
Host *.corp.example
  User ops
  IdentityFile ~/.ssh/corp
`,
  },
  {
    what: "a chain of jump hosts",
    to: ["deep", "deeper"],
    config: `Host deep
  HostName 192.0.2.77
  ProxyJump one.example,two@two.example:2202,[2001:db8::3]:22
Host deeper
  ProxyJump ssh://a%2Bb@one.example:22,deep
`,
  },
  {
    what: "the old way through a bastion: ProxyCommand with nc and with -W",
    to: ["inner1", "inner2", "tor.onion", "none"],
    config: `Host inner1
  ProxyCommand ssh -q -W %h:%p gateway.example
Host inner2
  ProxyCommand ssh -A gateway.example "nc -w 120 %h %p 2>/dev/null"
Host *.onion
  ProxyCommand socat STDIO SOCKS4A:localhost:%h:%p,socksport=9050
Host none
  ProxyCommand none
  ProxyJump not-used
Host *
  ProxyCommand corkscrew proxy.example 3128 %h %p ~/.ssh/proxyauth
`,
  },
  {
    what: "cloud instances by their identifiers, through a session manager",
    to: ["i-0abc123def", "mi-77", "ec2-user@i-1"],
    config: `# instances
host i-* mi-*
    ProxyCommand sh -c "aws ssm start-session --target %h --document-name AWS-StartSSHSession --parameters 'portNumber=%p'"
    User ec2-user
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel QUIET
`,
  },
  {
    what: "a cloud's tunnel command with quoted parts",
    to: ["compute.123456", "compute.x"],
    config: `Host compute.123456
    HostName 203.0.113.9
    IdentityFile "~/.ssh/google compute engine"
    CheckHostIP=no
    HostKeyAlias=compute.123456
    IdentitiesOnly=yes
    StrictHostKeyChecking=yes
    UserKnownHostsFile="~/.ssh/google_compute_known_hosts"
    ProxyCommand "/usr/bin/python3" "-S" "/opt/gcloud.py" start-iap-tunnel %h %p --listen-on-stdin
    ProxyUseFdpass=no
`,
  },
  {
    what: "a virtual machine as vagrant writes it",
    to: ["default"],
    config: `Host default
  HostName 127.0.0.1
  User vagrant
  Port 2222
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile "/home/me/my project/.vagrant/private_key"
  IdentitiesOnly yes
  LogLevel FATAL
  PubkeyAcceptedKeyTypes +ssh-rsa
  HostKeyAlgorithms +ssh-rsa
`,
  },
  {
    what: "old network devices with old algorithms",
    to: ["switch-3", "10.9.8.7", "router"],
    config: `Host switch-* 10.9.*
  KexAlgorithms +diffie-hellman-group1-sha1,diffie-hellman-group14-sha1
  Ciphers +aes128-cbc,3des-cbc
  HostKeyAlgorithms +ssh-rsa
  MACs +hmac-sha1
  RequiredRSASize 1024
  User admin
  PubkeyAuthentication no
`,
  },
  {
    what: "hardened lists of algorithms",
    to: ["box"],
    config: `Host *
  Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com
  KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org
  MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com
  HostKeyAlgorithms ssh-ed25519,rsa-sha2-512
  PubkeyAcceptedAlgorithms ssh-ed25519
  HashKnownHosts yes
  PasswordAuthentication no
  ChallengeResponseAuthentication no
`,
  },
  {
    what: "= with and without white space, tabs, and quotes around whole values",
    to: ["box", "tab"],
    config: `Host=box
Port = 2022
User="joe"
\tHostName\t=\t"box.example"
Host\ttab\t\t"two"
\tPort\t\t23
\tIdentityFile = "~/.ssh/a b"
`,
  },
  {
    what: "lines that end as on Windows",
    to: ["win", "other"],
    config: 'Host win\r\n  HostName win.example\r\n  User "DOM\\\\joe"\r\n\r\n# end\r\n' +
      "Host *\r\n  IdentityFile C:/Users/joe/.ssh/id_rsa\r\n  Compression yes\r\n",
  },
  {
    what: "a user of a domain",
    to: ["fs1", "fs2"],
    config: `Host fs1
  User CORP\\\\jdoe
Host fs2
  User jdoe@corp.example
`,
  },
  {
    what: "hosts with addresses of IPv6",
    to: ["six", "2001:db8::5", "ll", "::1"],
    config: `Host six
  HostName 2001:DB8:0::1
  AddressFamily inet6
Host 2001:db8::*
  User v6
Host ll
  HostName fe80::1%%eth0
Host ::1
  Port 2200
`,
  },
  {
    what: "HostName made of the typed name",
    to: ["web1", "db2.lab", "x.prod"],
    config: `Host web? db?
  HostName %h.example.net
Host *.lab
  HostName %h.internal
  User lab
Host *.prod
  HostName %%h%h
`,
  },
  {
    what: "files in a folder, and one that is not there",
    to: ["one", "two", "three"],
    config: `Include @/conf.d-*.conf
Include @/missing/*.conf
Host *
  User last
`,
    files: {
      "conf.d-10.conf": "Host one\n  User first\n  Port 1001\n",
      "conf.d-20.conf": "Host two\n  Port 1002\nHost one\n  Port 9\n",
      "conf.d-20.conf.off": "Port 7\n",
    },
  },
  {
    what: "a tree of files, one of them inside a block",
    to: ["prod.example", "stage.example", "dev"],
    config: `Host prod.example
  Include @/prod
Host stage.example
  Include @/stage @/more
Match all
  Include @/common
`,
    files: {
      prod: "User produser\nInclude @/more\n",
      stage: "User stageuser\nHost *.example\n  Port 2201\n",
      more: "ConnectTimeout 5\nHost dev\n  Port 1\n",
      common: "ServerAliveInterval 15\nIdentityFile ~/.ssh/common\n",
    },
  },
  {
    what: "Match host and user together",
    to: ["root@a.example", "joe@a.example", "a.example"],
    config: `Match host *.example user root
  IdentityFile ~/.ssh/root_key
  Port 2200
Match host "*.example,*.test" !user root
  IdentityFile ~/.ssh/user_key
`,
  },
  {
    what: "Match exec: in the office or not",
    to: ["files.corp.example", "other"],
    config: `Match host *.corp.example exec "test -e @/office"
  ProxyJump none
Match host *.corp.example !exec "test -e @/office"
  ProxyJump vpn.corp.example
Match exec "test %h-%n-%p-%r-%L = nothing"
  Port 99
`,
    files: { "away": "" },
  },
  {
    what: "the same in the office",
    to: ["files.corp.example"],
    config: `Match host *.corp.example exec "test -e @/office"
  ProxyJump none
  Port 2022
Match host *.corp.example !exec "test -e @/office"
  ProxyJump vpn.corp.example
`,
    files: { "office": "" },
  },
  {
    what: "Match exec with quotes and a pipe",
    to: ["git.example", "web.example"],
    config: `Match originalhost git.example exec "echo %n | grep -q ^git"
  User git
Match exec "[ $PLACE = home ]"
  Port 4022
`,
    environment: { PLACE: "home" },
  },
  {
    what: "certificates beside keys",
    to: ["ca1", "ca2"],
    config: `Host ca*
  IdentityFile ~/.ssh/id_ca
  CertificateFile ~/.ssh/id_ca-cert.pub
  CertificateFile ~/.ssh/vault/%h-cert.pub
  IdentitiesOnly yes
  CASignatureAlgorithms ssh-ed25519
Host ca2
  IdentityFile ~/.ssh/second
`,
  },
  {
    what: "an agent for each host",
    to: ["work", "home", "var", "none", "other"],
    config: `Host work
  IdentityAgent ~/.1password/agent.sock
Host home
  IdentityAgent "~/Library/Group Containers/agent socket"
Host var
  IdentityAgent $MY_AGENT
Host none
  IdentityAgent none
Host *
  IdentityAgent SSH_AUTH_SOCK
`,
    environment: { MY_AGENT: "/run/my agent" },
  },
  {
    what: "variables in paths",
    to: ["box"],
    config: `IdentityFile \${KEYS}/%r@%h
CertificateFile \${KEYS}/cert-%p
UserKnownHostsFile \${KEYS}/known_%n ~/.ssh/known_hosts
`,
    environment: { KEYS: "/srv/keys" },
  },
  {
    what: "tokens in every place that takes them",
    to: ["joe@box", "box"],
    config: `Host box
  HostName real-%h.example
  Port 2200
  IdentityFile %d/.ssh/id_%u_%h_%n_%p_%r
  UserKnownHostsFile ~/.ssh/kh-%k ~/.ssh/kh-%h-%p
  ControlPath ~/.ssh/%C
  LocalCommand echo %T %f
  ProxyCommand connect -H proxy:%p %h %p %r %n
  HostKeyAlias alias
`,
  },
  {
    what: "one connection shared by many clients",
    to: ["shared"],
    config: `Host *
  ControlMaster auto
  ControlPath ~/.ssh/sockets/%r@%h-%p
  ControlPersist 600
  Compression yes
  TCPKeepAlive no
  ServerAliveInterval 30
  ServerAliveCountMax 120
`,
  },
  {
    what: "commands, terminals and the environment, which are the client's",
    to: ["screen", "other"],
    config: `Host screen
  RemoteCommand tmux new -A -s main
  RequestTTY force
  PermitLocalCommand yes
  LocalCommand notify-send "connected to %h"
  SetEnv LANG=C.UTF-8 "GREETING=hello world"
  SendEnv LC_* !LC_ALL
  EscapeChar ~
  VisualHostKey yes
`,
  },
  {
    what: "forwards, which are the client's",
    to: ["tunnel"],
    config: `Host tunnel
  HostName gate.example
  LocalForward 5432 db.internal:5432
  LocalForward [::1]:8080 /run/web.sock
  RemoteForward 9000 localhost:9000
  RemoteForward /run/agent ~/.agent
  DynamicForward 127.0.0.1:1080
  ExitOnForwardFailure yes
  GatewayPorts no
  ForwardAgent yes
  ForwardX11 yes
  ForwardX11Trusted no
  SessionType none
  StdinNull yes
`,
  },
  {
    what: "what one system alone has, named in IgnoreUnknown",
    to: ["mac"],
    config: `IgnoreUnknown UseKeychain,AddKeysTo*,Other*
Host *
  UseKeychain yes
  AddKeysToAgent yes
  OtherThing 1 2 "three four"
  IdentityFile ~/.ssh/id_ed25519
`,
  },
  {
    what: "unknown keywords in a block for another host",
    to: ["box"],
    config: `Host *
  IgnoreUnknown Mystery
Host nowhere
  Mystery "quoted" = yes
Host box
  Port 7
`,
  },
  {
    what: "older names of keywords",
    to: ["old"],
    config: `Host old
  ProtocolKeepAlives 20
  Protocol 2
  DSAAuthentication no
  IdentityFile2 ~/.ssh/id_old
  ChallengeResponseAuthentication no
  UseRoaming no
  RhostsRSAAuthentication no
  GSSAPITrustDns no
`,
  },
  {
    what: "several known_hosts files, and none",
    to: ["many", "nothing", "q"],
    config: `Host many
  UserKnownHostsFile ~/.ssh/known_hosts ~/.ssh/known_hosts.d/%k "/etc/my known"
  GlobalKnownHostsFile /etc/a /etc/b
Host nothing
  UserKnownHostsFile none
  GlobalKnownHostsFile none
Host q
  UserKnownHostsFile "/dev/null"
`,
  },
  {
    what: "a scratch host whose key is never kept",
    to: ["192.168.56.101", "scratch.local", "localhost"],
    config: `Host 192.168.56.* *.local localhost
  StrictHostKeyChecking off
  UserKnownHostsFile=/dev/null
  LogLevel ERROR
  NoHostAuthenticationForLocalhost yes
  UpdateHostKeys no
`,
  },
  {
    what: "times in every unit",
    to: ["a", "b", "c", "d"],
    config: `Host a
  ConnectTimeout 1m30s
  ServerAliveInterval 2m
Host b
  ConnectTimeout 90
  ServerAliveInterval 1h
Host c
  ConnectTimeout none
  ServerAliveInterval 0
Host d
  ConnectTimeout 1W2D3H
`,
  },
  {
    what: "a wildcard first, which hides what follows",
    to: ["special", "other"],
    config: `Host *
  User everyone
  IdentityFile ~/.ssh/first
Host special
  User nobody
  Port 2200
  IdentityFile ~/.ssh/second
  IdentityFile none
`,
  },
  {
    what: "families of names with question marks and negations",
    to: ["web-1", "web-10", "web-9.dc2", "db-1"],
    config: `Host web-? !web-9*
  Port 1
Host web-?? web-*.dc? !*.dc3
  Port 2
Host !web-* *
  Port 3
Host *
  User u
`,
  },
  {
    what: "the settings of a site after those of a person, by Match final",
    to: ["host1", "host1.site.example"],
    config: `Host host1
  HostName host1.site.example
  User me
Match final host *.site.example
  User site
  Port 2022
  IdentityFile ~/.ssh/site
Match final all
  ServerAliveInterval 10
`,
  },
  {
    what: "canonical names, which a jump host leaves alone",
    to: ["srv", "10.1.2.3"],
    config: `CanonicalizeHostname yes
CanonicalDomains corp.example lab.example
CanonicalizeMaxDots 0
CanonicalizePermittedCNAMEs *.corp.example:*.cloud.example
ProxyJump gate
Match canonical host 10.*
  User canonical
Host srv
  Port 7
`,
  },
  {
    what: "CanonicalizeHostname off for one host",
    to: ["10.0.0.9", "plain"],
    config: `Host plain
  CanonicalizeHostname no
Host *
  CanonicalizeHostname yes
  CanonicalizeFallbackLocal yes
  CanonicalDomains example.com
Match canonical
  Port 2022
`,
  },
  {
    what: "methods to log in, in an order of one's own",
    to: ["pw", "kbd"],
    config: `Host pw
  PreferredAuthentications password
  PubkeyAuthentication no
  NumberOfPasswordPrompts 1
Host kbd
  PreferredAuthentications keyboard-interactive,password,publickey
  KbdInteractiveAuthentication yes
  BatchMode no
  GSSAPIAuthentication yes
  GSSAPIDelegateCredentials no
`,
  },
  {
    what: "unattended scripts",
    to: ["backup@nas"],
    differs: { serveraliveinterval: "Debian's ssh makes it 300 by default with BatchMode" },
    config: `Host nas
  HostName nas.lan
  BatchMode yes
  ConnectTimeout 10
  ConnectionAttempts 3
  StrictHostKeyChecking yes
  PasswordAuthentication no
  IdentityFile /etc/backup/key
  IdentitiesOnly yes
  IPQoS throughput
  RekeyLimit 1G 1h
`,
  },
  {
    what: "a security key in hardware",
    to: ["fido"],
    config: `Host fido
  IdentityFile ~/.ssh/id_ed25519_sk
  IdentitiesOnly yes
  SecurityKeyProvider internal
  PubkeyAcceptedAlgorithms sk-ssh-ed25519@openssh.com,ssh-ed25519
  PKCS11Provider none
`,
  },
  {
    what: "names in other letters and in capitals",
    to: ["Büro", "büro", "PROD", "prod"],
    config: `Host Büro
  HostName buero.example
  User jürgen
Host PROD
  HostName Prod.Example.COM
  Port 2200
Match host prod
  User lower
`,
  },
  {
    what: "hash signs, and spaces at the ends of lines",
    to: ["box", "b#x"],
    config: `   # a comment
Host box   # the box
  User joe#1   
  IdentityFile "~/.ssh/key #2"	# with a comment
  ProxyCommand nc %h %p # this is part of the command
Host b#x
  Port 7	
`,
  },
  {
    what: "the first of two blocks for one host",
    to: ["dup"],
    config: `Host dup
  Port 1
  IdentityFile ~/.ssh/a
Host dup
  Port 2
  User two
  IdentityFile ~/.ssh/b
  IdentityFile ~/.ssh/a
`,
  },
  {
    what: "a machine in a container, by a socket",
    to: ["container", "pod-7"],
    config: `Host container
  ProxyCommand docker exec -i %h /usr/sbin/sshd -i
  User root
Host pod-*
  ProxyCommand kubectl exec -i %h -c ssh -- nc localhost 22
  HostKeyAlias pods
`,
  },
  {
    what: "an address to connect from, through a jump host",
    to: ["bound"],
    config: `Host bound
  BindAddress 192.0.2.10
  ProxyJump gate
  CheckHostIP yes
  AddressFamily inet
`,
  },
  {
    what: "-o before the file",
    to: ["box"],
    config: "Host box\n  Port 22\n  User filed\n  ProxyJump gate\n",
    overrides: ["Port=2201", "User typed", "ProxyJump=none", "IdentityFile=~/x", "Compression=yes"],
  },
];

for (const { what, to, differs = {}, ...ofCase } of cases) {
  Deno.test(`as with ssh: ${what}`, async () => {
    for (const destination of to) {
      await assertSameAsSsh({ ...ofCase, destination }, Object.keys(differs));
    }
  });
}
