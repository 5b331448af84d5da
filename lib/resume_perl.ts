/** The host's program for `--resume` in perl 5.14 or newer; `resume_programs.ts` says what it does. */

/** Without `'`, `!`, backslashes and backquotes. */
export const perlProgram = String.raw`
use strict;
use POSIX ();
use Socket qw(:DEFAULT :addrinfo);
use Fcntl;
my $nl = chr 10;
my $cap = 4194304;
# How large pieces and frames are.
my $piece = 131072;
sub say_line { syswrite STDOUT, join("", @_, $nl) }
sub refuse { say_line("no ", @_); exit 0 }
sub reason { POSIX::strerror(POSIX::errno()) }
sub now { (POSIX::times())[0] / POSIX::sysconf(POSIX::_SC_CLK_TCK()) }
sub again { my $e = POSIX::errno(); $e == POSIX::EAGAIN() or $e == POSIX::EWOULDBLOCK() or $e == POSIX::EINTR() }
# 1 where it has ended, 2 where it is broken.
sub dead { my $n = shift; $n ? 0 : defined $n ? 1 : again() ? 0 : 2 }
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
# Bytes in pieces of one size, which are read into and written from where they are: their number,
# where they begin in the first piece, and the pieces. Some that are empty wait for what comes next.
my @spare;
sub queue { [0, 0] }
sub fill {
  my ($q, $h, $left) = @_;
  $left = $cap - $q->[0] if $left > $cap - $q->[0];
  while ($left > 0) {
    if (@$q < 3 or length $q->[-1] == $piece) {
      push @$q, @spare ? pop @spare : "";
      # It has all its memory at once.
      vec($q->[-1], $piece, 8) = 0; $q->[-1] = "";
    }
    my $has = length $q->[-1];
    my $room = $left < $piece - $has ? $left : $piece - $has;
    my $n = sysread $h, $q->[-1], $room, $has;
    return dead($n) unless $n;
    $q->[0] += $n; $left -= $n;
    last if $n < $room;
  }
  0;
}
sub skip {
  my ($q, $n) = @_;
  $q->[0] -= $n;
  $n += $q->[1];
  while ($n >= $piece) { $n -= $piece; push @spare, splice @$q, 2, 1 }
  $#spare = 3 if @spare > 4;
  if ($q->[0] == 0) { $n = 0; $q->[2] = "" if @$q > 2 }
  $q->[1] = $n;
}
sub spill {
  my ($q, $h) = @_;
  while ($q->[0]) {
    my $room = length($q->[2]) - $q->[1];
    my $n = syswrite $h, $q->[2], $room, $q->[1];
    return dead($n) unless $n;
    skip($q, $n);
    last if $n < $room;
  }
  0;
}
sub hold {
  my ($l, $t, $path, $token, $for) = @_;
  $0 = "sshshim --resume: keeps a connection";
  my $gone = sub { unlink $path; my $d = $path; $d =~ s{/[^/]*$}{}; rmdir $d };
  $SIG{HUP} = $SIG{INT} = $SIG{PIPE} = "IGNORE";
  $SIG{TERM} = sub { $gone->(); POSIX::_exit(0) };
  flags($_, 1) for $l, $t;
  my ($out, $base, $sent, $in, $got, $acked) = (queue(), 0, 0, queue(), 0, 0);
  my ($c, $wb, $open, $why, $told, $left, @p) = (undef, "", 1, "", 0, now());
  # What is to come of data; what has come of the next head, and how long that is.
  my ($need, $head, $want) = (0, "", 5);
  my $drop = sub { close $c; undef $c; $left = now(); 0 };
  my $shut = sub { $open = 0; $why = shift; $in = queue() };
  my $take = sub {
    my ($h, $count) = @_;
    close $c if $c;
    $c = $h; $told = 0; $acked = $got;
    skip($out, $count - $base); $base = $sent = $count;
    $wb = "ok $got $path$nl";
    ($need, $head, $want) = (0, "", 5);
  };
  my $receive = sub {
    my $had = $in->[0];
    my $over = fill($in, $c, $need);
    $need -= $in->[0] - $had; $got += $in->[0] - $had;
    skip($in, $in->[0]) unless $open;
    return $over && $drop->() if $over or $need;
    my $n = sysread $c, $head, $want - length $head, length $head;
    return dead($n) && $drop->() unless $n;
    return if length $head < $want;
    my ($k, $size, $x, $y) = unpack "CNNN", $head;
    if ($want == 5 and $k == 65 and $size == 8) { $want = 13; return 1 }
    ($head, $want) = ("", 5);
    if (defined $y) {
      my $o = $x * 4294967296 + $y;
      return $drop->() if $o < $base or $o > $sent;
      skip($out, $o - $base); $base = $o;
    }
    elsif ($k == 68 and $size <= $piece) { $need = $size }
    elsif ($k == 88 and $size <= $piece) {
      $gone->(); alarm 5; flags($t, 0);
      1 while $open and $in->[0] and spill($in, $t) == 0;
      POSIX::_exit(0);
    }
    else { return $drop->() }
    1;
  };
  while (1) {
    if ($c and $wb eq "") {
      my $n = $base + $out->[0] - $sent;
      if ($got - $acked >= 524288) { $acked = $got; $wb = pack "CNNN", 65, 8, int($got / 4294967296), $got % 4294967296 }
      elsif ($n > 0) {
        $n = $piece if $n > $piece;
        $wb = pack "CN", 68, $n;
        my $at = $sent - $base + $out->[1]; my $end = $at + $n;
        $sent += $n;
        while ($at < $end) { $wb .= substr($out->[2 + $at / $piece], $at % $piece, $end - $at); $at += $piece - $at % $piece }
      }
      elsif ($open == 0 and $told == 0) { $told = 1; $wb = pack("CN", 69, length $why) . $why }
    }
    my ($r, $w) = ("", "");
    vec($r, fileno $l, 1) = 1 if @p < 4;
    vec($r, fileno $_->[0], 1) = 1 for @p;
    vec($r, fileno $t, 1) = 1 if $open and $out->[0] < $cap;
    vec($w, fileno $t, 1) = 1 if $open and $in->[0];
    vec($r, fileno $c, 1) = 1 if $c and $in->[0] < $cap;
    vec($w, fileno $c, 1) = 1 if $c and length $wb;
    my $found = select($r, $w, undef, $c && @p == 0 ? undef : 5);
    if ($c ? 0 : now() - $left > ($open || $for < 600 ? $for : 600)) { $gone->(); POSIX::_exit(0) }
    if ($found < 1) { ($r, $w) = ("", "") }
    my @old = @p; @p = ();
    for (@old) {
      my ($h, $text, $since) = @$_;
      if (vec($r, fileno $h, 1)) {
        # Not what is behind the line.
        next if dead(sysread($h, $text, 1, length $text));
        if (substr($text, -1) eq $nl) {
          $take->($h, $2) if $text =~ /^([0-9a-f]{32}) ([0-9]{1,15})$/ and $1 eq $token and $2 >= $base and $2 <= $base + $out->[0];
          next;
        }
        next if length $text > 60;
      }
      push @p, [$h, $text, $since] if now() - $since < 10;
    }
    if (vec($r, fileno $l, 1) and accept(my $h, $l)) { flags($h, 1); push @p, [$h, "", now()] }
    if ($open and vec($r, fileno $t, 1)) {
      my $over = fill($out, $t, $piece);
      $shut->($over > 1 ? reason() : "") if $over;
    }
    if ($c and vec($r, fileno $c, 1)) { for (1 .. 4) { last unless $in->[0] < $cap and $receive->() } }
    if ($open and $in->[0] and vec($w, fileno $t, 1)) { $shut->(reason()) if spill($in, $t) }
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
my ($up, $down, $over) = (queue(), queue(), 0);
while (not $over or $up->[0] or $down->[0]) {
  my ($r, $w) = ("", "");
  vec($r, 0, 1) = 1 if not $over and $up->[0] < 262144;
  vec($w, fileno $s, 1) = 1 if $up->[0];
  vec($r, fileno $s, 1) = 1 if $over < 2 and $down->[0] < 262144;
  vec($w, 1, 1) = 1 if $down->[0];
  next if select($r, $w, undef, undef) < 1;
  if (vec($r, 0, 1) and fill($up, *STDIN, $piece)) { $over = 1 }
  if (vec($r, fileno $s, 1) and fill($down, $s, $piece)) { $over = 2; $up = queue() }
  if (vec($w, fileno $s, 1) and $up->[0]) { ($over, $up) = (2, queue()) if spill($up, $s) }
  if (vec($w, 1, 1) and $down->[0]) { last if spill($down, *STDOUT) }
}
exit 0;
`.trim();

/** Runs the first of its arguments, or has python run the others, of which the last is said. */
export function runPerl(runPython: string): string {
  return "if (eval q(require 5.014; require POSIX; require Socket; " +
    "Socket->import(q(getaddrinfo)); 1)) { eval join chr(10), split chr(96), shift; die } " +
    `shift; exec q(python3), q(-SEs), q(-c), q(${runPython}), @ARGV; print pop, chr 10`;
}
