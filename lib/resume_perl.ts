/** The host's program for `--resume` in perl 5.14 or newer; `resume_programs.ts` says what it does. */

/** Without `'`, `!`, backslashes and backquotes. */
export const perlProgram = String.raw`
use strict;
use POSIX ();
use Socket qw(:DEFAULT :addrinfo);
use Fcntl;
my $nl = chr 10;
my $cap = 6291456;
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
  @all = reverse @all if shift;
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
      return $drop->() if $n > 131072;
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
      my $n = $base + length($out) - $sent; $n = 131072 if $n > 131072;
      if ($got - $acked >= 524288) { $acked = $got; $wb = pack "CNNN", 65, 8, int($got / 4294967296), $got % 4294967296 }
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
  umask 077;
  my ($name, $l) = ($path);
  for my $left (2, 1, 0) {
    # The disk of the first may be full.
    my $d = folder($left == 0);
    sweep($d);
    $path = "$d/$name";
    # It has its name when it listens: before that others would take it for a left one.
    last if socket($l, PF_UNIX, SOCK_STREAM, 0) and bind($l, sockaddr_un("$d/.$name")) and listen($l, 4)
      and rename("$d/.$name", $path);
    # Another keeper has just ended and removed the folder, perhaps.
    refuse("socket " . reason()) unless $left;
  }
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
`.trim();

/** Runs the first of its arguments, or has python run the others, of which the last is said. */
export function runPerl(runPython: string): string {
  return "if (eval q(require 5.014; require POSIX; require Socket; " +
    "Socket->import(q(getaddrinfo)); 1)) { eval join chr(10), split chr(96), shift; die } " +
    `shift; exec q(python3), q(-SEs), q(-c), q(${runPython}), @ARGV; print pop, chr 10`;
}
