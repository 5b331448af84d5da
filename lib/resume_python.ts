/** The host's program for `--resume` in python 3.5 or newer; `resume_programs.ts` says what it does. */

/** Without `'`, `!`, backslashes and backquotes. */
export const pythonProgram = String.raw`
import sys
# Nothing is loaded from the folder in which it happens to run.
sys.path = [path for path in sys.path if path]
import _signal, _socket, errno, posix, select, time
leave = getattr(posix, "_exit")
CAP = 4194304
PIECE = 65536
FRAME = 131072
NL = chr(10).encode()
HEX = b"0123456789abcdef"
PATH = HEX + b"ghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+.,_@%/"
def say(*words):
    posix.write(1, b" ".join(words) + NL)
def refuse(*words):
    say(b"no", *words)
    leave(0)
def words_of(error):
    return (error.strerror or str(error)).encode("utf-8", "replace")
def stream(family, *rest):
    return _socket.socket(family, _socket.SOCK_STREAM, 0, *rest)
def reach(path):
    s = stream(_socket.AF_UNIX)
    try:
        s.connect(path)
        return s, 0
    except OSError as error:
        s.close()
        return None, error.errno
def owner(path):
    try:
        s = posix.stat(path)
    except OSError:
        return None
    return s.st_uid if s.st_mode & 0o170000 == 0o40000 else None
def make(path):
    try:
        posix.mkdir(path, 0o700)
    except OSError:
        pass
def folder(last):
    found = []
    me = posix.geteuid()
    run = posix.environ.get(b"XDG_RUNTIME_DIR")
    if run and owner(run) == me:
        found.append(run + b"/sshshim-resume")
    home = posix.environ.get(b"HOME")
    if home and owner(home) is not None:
        make(home + b"/.cache")
        found.append(home + b"/.cache/sshshim-resume")
    found.append(b"/tmp/sshshim-resume-%d" % me)
    if last:
        found.reverse()
    for d in found:
        if len(d) > 65 or d.strip(PATH) or not d.startswith(b"/"):
            continue
        make(d)
        try:
            s = posix.lstat(d)
        except OSError:
            continue
        if s.st_mode & 0o170077 == 0o40000 and s.st_uid == me:
            return d
    refuse(b"folder")
def sweep(d):
    for name in posix.listdir(d):
        if len(name) == 32 and not name.strip(HEX):
            s, e = reach(d + b"/" + name)
            if s:
                s.close()
            elif e == errno.ECONNREFUSED:
                posix.unlink(d + b"/" + name)
class Pieces:
    # Bytes in pieces of one size, which are read into and written from where they are.
    def __init__(self):
        self.all, self.at, self.size = [], 0, 0
    def parts(self, at, n):
        found = []
        at += self.at
        while n > 0:
            i, o = divmod(at, PIECE)
            if i == len(self.all):
                self.all.append(memoryview(bytearray(PIECE)))
            found.append(self.all[i][o:o + n])
            at += len(found[-1])
            n -= len(found[-1])
        return found
    def room(self, n):
        return self.parts(self.size, n)
    def first(self, n):
        return self.parts(0, min(n, self.size))
    def add(self, n):
        self.size += n
        return n
    def skip(self, n):
        self.size -= n
        i, self.at = divmod(self.at + n, PIECE)
        # Two are left for what comes next.
        self.all = self.all[i:] + self.all[:i]
        del self.all[(self.at + self.size) // PIECE + 3:]
class Holder:
    def __init__(self, l, t, path, token, limit):
        self.l, self.t, self.path, self.token, self.limit = l, t, path, token, limit
        self.out, self.inn = Pieces(), Pieces()
        self.base = self.sent = self.got = self.acked = 0
        self.c = None
        self.open, self.why, self.told = True, b"", False
        self.left = time.monotonic()
        self.pending = []
        self.head = memoryview(bytearray(13))
        self.begin(b"")
    def begin(self, text):
        # What is written before out, and how much of out is in the frame; then what is to come of
        # data, and how much has come of the head.
        self.wb, self.due = text, 0
        self.need, self.have, self.want = 0, 0, 5
    def gone(self):
        try:
            posix.unlink(self.path)
            posix.rmdir(self.path.rpartition(b"/")[0])
        except OSError:
            pass
    def end(self, *_):
        self.gone()
        leave(0)
    def drop(self):
        self.c.close()
        self.c = None
        self.left = time.monotonic()
    def shut(self, why):
        self.open, self.why = False, why
        self.inn = Pieces()
    def take(self, h, count):
        if self.c:
            self.c.close()
        self.c, self.told, self.acked = h, False, self.got
        self.out.skip(count - self.base)
        self.base = self.sent = count
        self.begin(b"ok %d %s" % (self.got, self.path) + NL)
    def close(self):
        self.gone()
        _signal.alarm(5)
        self.t.setblocking(True)
        try:
            for part in self.inn.first(self.inn.size):
                self.t.sendall(part)
        except OSError:
            pass
        leave(0)
    def receive(self):
        # The rest of the data, and the next head.
        bufs = self.inn.room(self.need) + [self.head[self.have:self.want]]
        try:
            n = self.c.recvmsg_into(bufs)[0]
        except BlockingIOError:
            return
        except OSError:
            n = 0
        if n == 0:
            return self.drop()
        data = self.inn.add(min(n, self.need))
        self.need -= data
        self.got += data
        self.have += n - data
        if not self.open:
            self.inn = Pieces()
        if self.have < self.want:
            return
        self.have = 0
        k, n = self.head[0], int.from_bytes(self.head[1:5], "big")
        if self.want == 13:
            o = int.from_bytes(self.head[5:], "big")
            self.want = 5
            if o < self.base or o > self.sent:
                return self.drop()
            self.out.skip(o - self.base)
            self.base = o
        elif k == 68 and n <= FRAME:
            self.need = n
        elif k == 65 and n == 8:
            self.have, self.want = 5, 13
        elif k == 88 and n <= FRAME:
            self.close()
        else:
            self.drop()
    def fill(self):
        n = min(FRAME, self.base + self.out.size - self.sent)
        if self.got - self.acked >= 524288:
            self.acked = self.got
            self.wb = head(65, 8) + self.got.to_bytes(8, "big")
        elif n > 0:
            self.wb, self.due = head(68, n), n
        elif not self.open and not self.told:
            self.told = True
            self.wb = head(69, len(self.why)) + self.why
    def send(self):
        try:
            n = self.c.sendmsg([self.wb] + self.out.parts(self.sent - self.base, self.due))
        except BlockingIOError:
            return
        except OSError:
            return self.drop()
        data = max(0, n - len(self.wb))
        self.wb = self.wb[n:]
        self.due -= data
        self.sent += data
    def knock(self, h, text, since, isread):
        if isread:
            try:
                # Not what is behind the line.
                b = h.recv(1)
            except BlockingIOError:
                b = None
            except OSError:
                b = b""
            if b == NL:
                token, _, count = text.partition(b" ")
                if token == self.token and count.isdigit() and len(count) < 16:
                    if self.base <= int(count) <= self.base + self.out.size:
                        return self.take(h, int(count))
            if b in (b"", NL) or len(text) > 60:
                return h.close()
            text += b or b""
        if time.monotonic() - since < 10:
            self.pending.append((h, text, since))
        else:
            h.close()
    def run(self):
        for n in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGPIPE):
            _signal.signal(n, _signal.SIG_IGN)
        _signal.signal(_signal.SIGTERM, self.end)
        self.l.setblocking(False)
        self.t.setblocking(False)
        while True:
            if self.c and not self.wb and not self.due:
                self.fill()
            r = [self.l] if len(self.pending) < 4 else []
            r += [p[0] for p in self.pending]
            w = []
            if self.open and self.out.size < CAP:
                r.append(self.t)
            if self.open and self.inn.size:
                w.append(self.t)
            if self.c and self.inn.size < CAP:
                r.append(self.c)
            if self.c and (self.wb or self.due):
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
                    h = stream(_socket.AF_UNIX, getattr(self.l, "_accept")()[0])
                    h.setblocking(False)
                    self.pending.append((h, b"", time.monotonic()))
                except OSError:
                    pass
            try:
                if self.t in r and self.out.add(self.t.recvmsg_into(self.out.room(FRAME))[0]) == 0:
                    self.shut(b"")
                if self.open and self.inn.size and self.t in w:
                    self.inn.skip(self.t.sendmsg(self.inn.first(2 * FRAME)))
            except BlockingIOError:
                pass
            except OSError as error:
                self.shut(words_of(error))
            if c and c is self.c and c in r:
                self.receive()
            if c and c is self.c and c in w:
                self.send()
def head(kind, size):
    return (kind << 32 | size).to_bytes(5, "big")
def new(name, token, limit):
    at = posix.environ.get(b"SSH_CONNECTION", b"").split()
    if len(at) < 4:
        refuse(b"address")
    try:
        # As bytes, an address is not taken for a name to be encoded.
        family, _, _, _, address = _socket.getaddrinfo(
            at[2], at[3], 0, _socket.SOCK_STREAM, 0, _socket.AI_NUMERICHOST)[0]
        t = stream(family)
        t.settimeout(15)
        t.connect((address[0].encode(),) + address[1:])
    except OSError as error:
        refuse(b"connect", at[2], at[3], words_of(error))
    t.setsockopt(6, 1, 1)
    posix.umask(0o77)
    for left in (2, 1, 0):
        # The disk of the first may be full.
        d = folder(left == 0)
        path = d + b"/" + name
        l = stream(_socket.AF_UNIX)
        try:
            sweep(d)
            # It has its name when it listens: before that others would take it for a left one.
            l.bind(d + b"/." + name)
            l.listen(4)
            posix.rename(d + b"/." + name, path)
            break
        except OSError as error:
            # Another keeper has just ended and removed the folder, perhaps.
            l.close()
            if not left:
                refuse(b"socket", words_of(error))
    try:
        pid = posix.fork()
    except OSError as error:
        refuse(b"fork", words_of(error))
    if pid == 0:
        posix.setsid()
        if posix.fork():
            leave(0)
        posix.chdir("/")
        null = posix.open("/dev/null", posix.O_RDWR)
        for n in (0, 1, 2):
            posix.dup2(null, n)
        for n in set(range(3, 256)) - {l.fileno(), t.fileno()}:
            posix.closerange(n, n + 1)
        holder = Holder(l, t, path, token, limit)
        try:
            holder.run()
        finally:
            holder.gone()
            leave(1)
    posix.waitpid(pid, 0)
    return path
def join(s):
    for f in (0, 1):
        posix.set_blocking(f, False)
    s.setblocking(False)
    up, down, over = Pieces(), Pieces(), 0
    while not over or up.size or down.size:
        r, w = [], []
        if not over and up.size < 2 * FRAME:
            r.append(0)
        if over < 2 and down.size < 2 * FRAME:
            r.append(s)
        if up.size:
            w.append(s)
        if down.size:
            w.append(1)
        r, w, _ = select.select(r, w, [])
        try:
            if 0 in r and up.add(posix.readv(0, up.room(FRAME))) == 0:
                over = 1
        except BlockingIOError:
            pass
        except OSError:
            over = 1
        try:
            if s in r and down.add(s.recvmsg_into(down.room(FRAME))[0]) == 0:
                over, up = 2, Pieces()
            if s in w and up.size:
                up.skip(s.sendmsg(up.first(FRAME)))
        except BlockingIOError:
            pass
        except OSError:
            over, up = 2, Pieces()
        try:
            if 1 in w:
                down.skip(posix.writev(1, down.first(FRAME)))
        except BlockingIOError:
            pass
        except OSError:
            return
def main():
    say(b"sshshim-resume 1 python")
    line = b""
    while True:
        b = posix.read(0, 1)
        if b == b"" or len(line) > 300:
            return
        if b == NL:
            break
        line += b
    mode, path, token, count = line.split(b" ")[:4]
    if mode == b"new":
        path = new(path, token, int(line.split(b" ")[4]))
    s, e = reach(path)
    if not s:
        if e == errno.ECONNREFUSED:
            posix.unlink(path)
        refuse(b"gone")
    s.sendall(token + b" " + count + NL)
    join(s)
main()
`.trim();

/** Runs the first of its arguments, or says the second where python is too old. */
export const runPython =
  "import sys; exec(sys.argv[1].replace(chr(96), chr(10))) if sys.version_info >= (3, 5) else " +
  "print(sys.argv[2])";
