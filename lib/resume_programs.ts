/**
 * The program that runs on the host for `--resume`: it opens a TCP connection to the host's own sshd,
 * keeps it, and hands it to one carrier after the other. It is written twice, in perl and in python,
 * and the host runs what it has. `.github/RESUME.md` tells its users what it does.
 *
 * Its first line of output is {@link greeting}. Then it reads a line, `new NAME TOKEN COUNT SECONDS`
 * or `attach PATH TOKEN COUNT`, and answers `ok COUNT PATH`, followed by frames, or `no REASON`.
 *
 * It goes through the user's login shell, whichever that is: so the programs have no `'`, no `!`, no
 * backslash and no backquote, which stands for the end of a line, and no word is long.
 */

/** With which the program begins; the language follows, or `none`. */
export const greeting = "sshshim-resume 1 ";

/** How long the words of the command are, in characters: OpenBSD's csh takes 1023. */
const wordLength = 900;

const perl = String.raw`
use strict;
use POSIX ();
use Socket qw(:DEFAULT :addrinfo);
use Fcntl;
my $nl = chr 10;
my $cap = 8388608;
sub say_line { syswrite STDOUT, join("", @_, $nl) }
sub refuse { say_line("no ", @_); exit 0 }
sub reason { POSIX::strerror(POSIX::errno()) }
sub now { (POSIX::times())[0] / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }
sub again { my $e = POSIX::errno(); $e == POSIX::EAGAIN() or $e == POSIX::EWOULDBLOCK() or $e == POSIX::EINTR() }
sub dead { my $n = shift; $n ? 0 : defined $n ? 1 : again() ? 0 : 1 }
sub flags { my ($h, $on) = @_; my $f = fcntl($h, F_GETFL, 0); fcntl($h, F_SETFL, $on ? $f | O_NONBLOCK : $f & ~O_NONBLOCK) }
sub reach { my $p = shift; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or return; connect($s, sockaddr_un($p)) or return; $s }
sub folder {
  my @all;
  my $run = $ENV{XDG_RUNTIME_DIR};
  push @all, "$run/sshshim-resume" if $run and -d $run and (stat _)[4] == $>;
  my $home = $ENV{HOME};
  if ($home and -d $home) { mkdir "$home/.cache", 0700; push @all, "$home/.cache/sshshim-resume" }
  push @all, "/tmp/sshshim-resume-$>";
  for my $d (@all) {
    next if length($d) > 65 or $d =~ m{[^-+.,_@%/A-Za-z0-9]} or $d =~ m{^[^/]};
    mkdir $d, 0700;
    my @s = lstat $d or next;
    return $d if -d _ and $s[4] == $> and ($s[2] & 077) == 0;
  }
  refuse("folder");
}
sub sweep {
  my $d = shift;
  opendir(my $h, $d) or return;
  for (readdir $h) { next unless /^[0-9a-f]{32}$/; reach("$d/$_") or POSIX::errno() == POSIX::ECONNREFUSED() and unlink "$d/$_" }
}
sub hold {
  my ($l, $t, $path, $token, $for) = @_;
  $0 = "sshshim --resume: keeps a connection";
  my $gone = sub { unlink $path; my $d = $path; $d =~ s{/[^/]*$}{}; rmdir $d };
  $SIG{HUP} = $SIG{INT} = $SIG{PIPE} = "IGNORE";
  $SIG{TERM} = sub { $gone->(); POSIX::_exit(0) };
  flags($_, 1) for $l, $t;
  my ($out, $base, $sent, $in, $got, $acked) = ("", 0, 0, "", 0, 0);
  my ($c, $rb, $wb, $open, $why, $told, $left, @p) = (undef, "", "", 1, "", 0, now());
  my $drop = sub { close $c; undef $c; $left = now() };
  my $shut = sub { $open = 0; $why = shift; $in = "" };
  my $take = sub {
    my ($h, $count, $rest) = @_;
    close $c if $c;
    $c = $h; $told = 0; $rb = $rest; $acked = $got;
    substr($out, 0, $count - $base, ""); $base = $sent = $count;
    $wb = "ok $got $path$nl";
  };
  my $frames = sub {
    while ($c and length($rb) >= 5) {
      my ($k, $n) = unpack "CN", $rb;
      return $drop->() if $n > 65536;
      return if length($rb) < 5 + $n;
      my $d = substr($rb, 5, $n); substr($rb, 0, 5 + $n, "");
      if ($k == 68) { $got += $n; $in .= $d if $open }
      elsif ($k == 65 and $n == 8) {
        my ($a, $b) = unpack "NN", $d; my $o = $a * 4294967296 + $b;
        return $drop->() if $o < $base or $o > $sent;
        substr($out, 0, $o - $base, ""); $base = $o;
      }
      elsif ($k == 88) {
        $gone->(); alarm 5; flags($t, 0);
        while ($open and length $in) { my $n = syswrite($t, $in) or last; substr($in, 0, $n, "") }
        POSIX::_exit(0);
      }
      else { return $drop->() }
    }
  };
  while (1) {
    if ($c and $wb eq "") {
      my $n = $base + length($out) - $sent; $n = 65536 if $n > 65536;
      if ($got - $acked >= 65536) { $acked = $got; $wb = pack "CNNN", 65, 8, int($got / 4294967296), $got % 4294967296 }
      elsif ($n > 0) { $wb = pack("CN", 68, $n) . substr($out, $sent - $base, $n); $sent += $n }
      elsif ($open == 0 and $told == 0) { $told = 1; $wb = pack("CN", 69, length $why) . $why }
    }
    my ($r, $w) = ("", "");
    vec($r, fileno $l, 1) = 1 if @p < 4;
    vec($r, fileno $_->[0], 1) = 1 for @p;
    vec($r, fileno $t, 1) = 1 if $open and length($out) < $cap;
    vec($w, fileno $t, 1) = 1 if $open and length $in;
    vec($r, fileno $c, 1) = 1 if $c and length($in) < $cap;
    vec($w, fileno $c, 1) = 1 if $c and length $wb;
    my $found = select($r, $w, undef, $c && @p == 0 ? undef : 5);
    if ($c ? 0 : now() - $left > ($open || $for < 600 ? $for : 600)) { $gone->(); POSIX::_exit(0) }
    if ($found < 1) { ($r, $w) = ("", "") }
    my @old = @p; @p = ();
    for (@old) {
      my ($h, $text, $since) = @$_;
      if (vec($r, fileno $h, 1)) {
        my $n = sysread($h, $text, 200, length $text);
        next if dead($n);
        my $end = index $text, $nl;
        if ($end >= 0) {
          if (substr($text, 0, $end) =~ /^([0-9a-f]{32}) ([0-9]{1,15})$/ and $1 eq $token and $2 >= $base and $2 <= $base + length $out) {
            $take->($h, $2, substr($text, $end + 1)); $frames->();
          }
          next;
        }
        next if length $text > 190;
      }
      push @p, [$h, $text, $since] if now() - $since < 10;
    }
    if (vec($r, fileno $l, 1) and accept(my $h, $l)) { flags($h, 1); push @p, [$h, "", now()] }
    if ($open and vec($r, fileno $t, 1)) {
      my $n = sysread($t, $out, 131072, length $out);
      $shut->(defined $n ? "" : reason()) if dead($n);
    }
    if ($c and vec($r, fileno $c, 1)) {
      my $n = sysread($c, $rb, 131072, length $rb);
      if (dead($n)) { $drop->() } else { $frames->() }
    }
    if ($open and length $in and vec($w, fileno $t, 1)) {
      my $n = syswrite($t, $in);
      if (defined $n) { substr($in, 0, $n, "") } elsif (not again()) { $shut->(reason()) }
    }
    if ($c and length $wb and vec($w, fileno $c, 1)) {
      my $n = syswrite($c, $wb);
      if (defined $n) { substr($wb, 0, $n, "") } elsif (not again()) { $drop->() }
    }
  }
}
say_line("sshshim-resume 1 perl");
my $line = "";
while (1) { sysread(STDIN, my $x, 1) or exit 1; last if $x eq $nl; $line .= $x; exit 1 if length $line > 300 }
my ($mode, $path, $token, $count, $for) = split / /, $line;
if ($mode eq "new") {
  my @at = split / /, $ENV{SSH_CONNECTION} || "";
  refuse("address") unless @at == 4;
  my ($e, @found) = getaddrinfo($at[2], $at[3], {socktype => SOCK_STREAM, flags => AI_NUMERICHOST});
  my ($t, $why) = (undef, "$e");
  for (@found) { socket(my $s, $_->{family}, SOCK_STREAM, 0) or next; alarm 15; if (connect($s, $_->{addr})) { $t = $s; last } $why = reason() }
  alarm 0;
  $t or refuse("connect $at[2] $at[3] $why");
  setsockopt($t, 6, 1, 1);
  my $d = folder();
  sweep($d);
  $path = "$d/$path";
  umask 077;
  my $l;
  socket($l, PF_UNIX, SOCK_STREAM, 0) and bind($l, sockaddr_un($path)) and listen($l, 4) or refuse("socket " . reason());
  my $pid = fork;
  defined $pid or refuse("fork " . reason());
  if ($pid == 0) {
    POSIX::setsid();
    POSIX::_exit(0) if fork;
    chdir "/";
    my $null = POSIX::open("/dev/null", O_RDWR);
    POSIX::dup2($null, $_) for 0, 1, 2;
    for my $n (3 .. 255) { POSIX::close($n) unless $n == fileno $l or $n == fileno $t }
    eval { hold($l, $t, $path, $token, $for) };
    unlink $path;
    POSIX::_exit(1);
  }
  waitpid $pid, 0;
}
my $s = reach($path);
unless ($s) { unlink $path if POSIX::errno() == POSIX::ECONNREFUSED(); refuse("gone") }
syswrite $s, "$token $count$nl";
$SIG{PIPE} = "IGNORE";
flags($_, 1) for *STDIN, *STDOUT, $s;
my ($up, $down, $over) = ("", "", 0);
while (1) {
  exit 0 if $over and $up eq "" and $down eq "";
  my ($r, $w) = ("", "");
  vec($r, 0, 1) = 1 if not $over and length($up) < 262144;
  vec($w, fileno $s, 1) = 1 if length $up;
  vec($r, fileno $s, 1) = 1 if $over < 2 and length($down) < 262144;
  vec($w, 1, 1) = 1 if length $down;
  next if select($r, $w, undef, undef) < 1;
  if (vec($r, 0, 1)) { my $n = sysread(STDIN, $up, 131072, length $up); $over = 1 if dead($n) }
  if (vec($r, fileno $s, 1)) { my $n = sysread($s, $down, 131072, length $down); if (dead($n)) { $over = 2; $up = "" } }
  if (vec($w, fileno $s, 1) and length $up) { my $n = syswrite($s, $up); if (defined $n) { substr($up, 0, $n, "") } elsif (not again()) { $over = 2; $up = "" } }
  if (vec($w, 1, 1) and length $down) { my $n = syswrite(STDOUT, $down); if (defined $n) { substr($down, 0, $n, "") } elsif (not again()) { exit 0 } }
}
`;

const python = String.raw`
import errno, os, re, select, signal, socket, stat, struct, sys, time
CAP = 8388608
NL = chr(10).encode()
def say(*words):
    os.write(1, " ".join(str(word) for word in words).encode() + NL)
def refuse(*words):
    say("no", *words)
    os._exit(0)
def words_of(error):
    return error.strerror or str(error)
def reach(path):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path)
        return s, 0
    except OSError as error:
        s.close()
        return None, error.errno
def folder():
    found = []
    me = os.geteuid()
    run = os.environ.get("XDG_RUNTIME_DIR", "")
    if run and os.path.isdir(run) and os.stat(run).st_uid == me:
        found.append(run + "/sshshim-resume")
    home = os.environ.get("HOME", "")
    if home and os.path.isdir(home):
        try:
            os.mkdir(home + "/.cache", 0o700)
        except OSError:
            pass
        found.append(home + "/.cache/sshshim-resume")
    found.append("/tmp/sshshim-resume-%d" % me)
    for d in found:
        if len(d) > 65 or not re.match("^/[-+.,_@%/A-Za-z0-9]*$", d):
            continue
        try:
            os.mkdir(d, 0o700)
        except OSError:
            pass
        try:
            s = os.lstat(d)
        except OSError:
            continue
        if stat.S_ISDIR(s.st_mode) and s.st_uid == me and s.st_mode & 0o77 == 0:
            return d
    refuse("folder")
def sweep(d):
    for name in os.listdir(d):
        if re.match("^[0-9a-f]{32}$", name):
            s, e = reach(d + "/" + name)
            if s:
                s.close()
            elif e == errno.ECONNREFUSED:
                os.unlink(d + "/" + name)
class Holder:
    def __init__(self, l, t, path, token, limit):
        self.l, self.t, self.path, self.token, self.limit = l, t, path, token, limit
        self.out = bytearray()
        self.inn = bytearray()
        self.rb = bytearray()
        self.wb = bytearray()
        self.base = self.sent = self.got = self.acked = 0
        self.c = None
        self.open, self.why, self.told = True, b"", False
        self.left = time.monotonic()
        self.pending = []
    def gone(self):
        try:
            os.unlink(self.path)
            os.rmdir(os.path.dirname(self.path))
        except OSError:
            pass
    def end(self, *_):
        self.gone()
        os._exit(0)
    def drop(self):
        self.c.close()
        self.c = None
        self.left = time.monotonic()
    def shut(self, why):
        self.open, self.why = False, why.encode()
        self.inn = bytearray()
    def take(self, h, count, rest):
        if self.c:
            self.c.close()
        self.c, self.told, self.rb, self.acked = h, False, bytearray(rest), self.got
        del self.out[:count - self.base]
        self.base = self.sent = count
        self.wb = bytearray(("ok %d %s" % (self.got, self.path)).encode() + NL)
    def frames(self):
        while self.c and len(self.rb) >= 5:
            k, n = struct.unpack(">BI", self.rb[:5])
            if n > 65536:
                return self.drop()
            if len(self.rb) < 5 + n:
                return
            d = self.rb[5:5 + n]
            del self.rb[:5 + n]
            if k == 68:
                self.got += n
                if self.open:
                    self.inn += d
            elif k == 65 and n == 8:
                o = struct.unpack(">Q", d)[0]
                if o < self.base or o > self.sent:
                    return self.drop()
                del self.out[:o - self.base]
                self.base = o
            elif k == 88:
                self.gone()
                try:
                    self.t.settimeout(5)
                    if self.open:
                        self.t.sendall(self.inn)
                except OSError:
                    pass
                os._exit(0)
            else:
                return self.drop()
    def fill(self):
        n = min(65536, self.base + len(self.out) - self.sent)
        if self.got - self.acked >= 65536:
            self.acked = self.got
            self.wb += struct.pack(">BIQ", 65, 8, self.got)
        elif n > 0:
            at = self.sent - self.base
            self.wb += struct.pack(">BI", 68, n)
            self.wb += self.out[at:at + n]
            self.sent += n
        elif not self.open and not self.told:
            self.told = True
            self.wb += struct.pack(">BI", 69, len(self.why)) + self.why
    def knock(self, h, text, since, isread):
        if isread:
            try:
                b = h.recv(200)
            except BlockingIOError:
                b = None
            except OSError:
                b = b""
            if b == b"":
                return h.close()
            text += b or b""
            line, found, rest = text.partition(NL)
            if found:
                m = re.match(b"^([0-9a-f]{32}) ([0-9]{1,15})$", line)
                if m and m.group(1) == self.token and self.base <= int(m.group(2)) <= self.base + len(self.out):
                    self.take(h, int(m.group(2)), rest)
                    return self.frames()
                return h.close()
            if len(text) > 190:
                return h.close()
        if time.monotonic() - since < 10:
            self.pending.append((h, text, since))
        else:
            h.close()
    def get(self, s):
        try:
            return s.recv(131072)
        except BlockingIOError:
            return None
    def run(self):
        for n in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(n, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.end)
        self.l.setblocking(False)
        self.t.setblocking(False)
        while True:
            if self.c and not self.wb:
                self.fill()
            r = [self.l] if len(self.pending) < 4 else []
            r += [p[0] for p in self.pending]
            w = []
            if self.open and len(self.out) < CAP:
                r.append(self.t)
            if self.open and self.inn:
                w.append(self.t)
            if self.c and len(self.inn) < CAP:
                r.append(self.c)
            if self.c and self.wb:
                w.append(self.c)
            r, w, _ = select.select(r, w, [], None if self.c and not self.pending else 5)
            limit = self.limit if self.open else min(self.limit, 600)
            if not self.c and time.monotonic() - self.left > limit:
                self.end()
            c = self.c
            old, self.pending = self.pending, []
            for p in old:
                self.knock(p[0], p[1], p[2], p[0] in r)
            if self.l in r:
                try:
                    h = self.l.accept()[0]
                    h.setblocking(False)
                    self.pending.append((h, b"", time.monotonic()))
                except OSError:
                    pass
            if self.open and self.t in r:
                try:
                    b = self.get(self.t)
                    if b == b"":
                        self.shut("")
                    self.out += b or b""
                except OSError as error:
                    self.shut(words_of(error))
            if c and c is self.c and c in r:
                try:
                    b = self.get(c)
                except OSError:
                    b = b""
                if b == b"":
                    self.drop()
                elif b:
                    self.rb += b
                    self.frames()
            if self.open and self.inn and self.t in w:
                try:
                    del self.inn[:self.t.send(self.inn[:262144])]
                except BlockingIOError:
                    pass
                except OSError as error:
                    self.shut(words_of(error))
            if c and c is self.c and self.wb and c in w:
                try:
                    del self.wb[:c.send(self.wb)]
                except BlockingIOError:
                    pass
                except OSError:
                    self.drop()
def new(name, token, limit):
    at = os.environ.get("SSH_CONNECTION", "").split()
    if len(at) < 4:
        refuse("address")
    try:
        t = socket.create_connection((at[2], int(at[3])), 15)
    except OSError as error:
        refuse("connect", at[2], at[3], words_of(error))
    t.setsockopt(6, 1, 1)
    d = folder()
    sweep(d)
    path = d + "/" + name
    os.umask(0o77)
    l = socket.socket(socket.AF_UNIX)
    try:
        l.bind(path)
        l.listen(4)
        pid = os.fork()
    except OSError as error:
        refuse("socket", words_of(error))
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for n in (0, 1, 2):
            os.dup2(null, n)
        for n in range(3, 256):
            if n not in (l.fileno(), t.fileno()):
                try:
                    os.close(n)
                except OSError:
                    pass
        holder = Holder(l, t, path, token.encode(), limit)
        try:
            holder.run()
        finally:
            holder.gone()
            os._exit(1)
    os.waitpid(pid, 0)
    return path
def join(s):
    for f in (0, 1):
        os.set_blocking(f, False)
    s.setblocking(False)
    up, down, over = bytearray(), bytearray(), 0
    while not over or up or down:
        r, w = [], []
        if not over and len(up) < 262144:
            r.append(0)
        if over < 2 and len(down) < 262144:
            r.append(s)
        if up:
            w.append(s)
        if down:
            w.append(1)
        r, w, _ = select.select(r, w, [])
        try:
            if 0 in r:
                b = os.read(0, 131072)
                up += b
                over = over or (1 if b == b"" else 0)
        except BlockingIOError:
            pass
        except OSError:
            over = 1
        try:
            if s in r:
                b = s.recv(131072)
                down += b
                if b == b"":
                    over, up = 2, bytearray()
            if s in w and up:
                del up[:s.send(up)]
        except BlockingIOError:
            pass
        except OSError:
            over, up = 2, bytearray()
        try:
            if 1 in w:
                del down[:os.write(1, down)]
        except BlockingIOError:
            pass
        except OSError:
            return
def main():
    say("sshshim-resume 1 python")
    line = b""
    while True:
        b = os.read(0, 1)
        if b == b"" or len(line) > 300:
            return
        if b == NL:
            break
        line += b
    mode, path, token, count = line.decode().split(" ")[:4]
    if mode == "new":
        path = new(path, token, int(line.decode().split(" ")[4]))
    s, e = reach(path)
    if not s:
        if e == errno.ECONNREFUSED:
            os.unlink(path)
        refuse("gone")
    s.sendall((token + " " + count).encode() + NL)
    join(s)
main()
`;

/** Tries what there is, and runs it with its program; everything is in its arguments. */
const chooser = [
  'p=; until test "$1" = --; do p=$p$1; shift; done; shift',
  "y=; until test $# = 0; do y=$y$1; shift; done",
  'if perl -e "use 5.014; use POSIX (); use Socket qw(getaddrinfo)" </dev/null >/dev/null 2>&1',
  'then exec perl -e "eval join chr(10), split chr(96), shift; die" -- "$p"; fi',
  'if python3 -c "import select, socket, os; os.set_blocking" </dev/null >/dev/null 2>&1',
  'then exec python3 -c "import sys; exec(sys.argv[1].replace(chr(96), chr(10)))" "$y"; fi',
  `echo ${greeting}none`,
].join("; ");

/** The programs by their language, as they are sent. */
export const programs: Readonly<Record<"perl" | "python", string>> = {
  perl: perl.trim(),
  python: python.trim(),
};

/** The command that runs one of the programs, for any login shell. */
export function resumeCommand({ perl, python } = programs): string {
  const words = ["sh", "-c", chooser, "sh", ...wordsOf(perl), "--", ...wordsOf(python)];
  return words.map((word, index) => index < 2 ? word : `'${word}'`).join(" ");
}

/** Pieces of a program, of which none is `--`. */
function wordsOf(program: string): string[] {
  const line = program.replaceAll("\n", "`");
  const words = [];
  for (let at = 0; at < line.length; at += wordLength) words.push(line.slice(at, at + wordLength));
  return words;
}
