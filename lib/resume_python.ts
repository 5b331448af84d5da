/** The host's program for `--resume` in python 3.5 or newer; `resume_programs.ts` says what it does. */

/** Without `'`, `!`, backslashes and backquotes. */
export const pythonProgram = String.raw`
import errno, os, re, select, signal, socket, stat, struct, sys, time
leave = getattr(os, "_exit")
CAP = 4194304
NL = chr(10).encode()
def say(*words):
    os.write(1, " ".join(str(word) for word in words).encode() + NL)
def refuse(*words):
    say("no", *words)
    leave(0)
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
def folder(last):
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
    if last:
        found.reverse()
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
        leave(0)
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
            if n > 131072:
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
                leave(0)
            else:
                return self.drop()
    def fill(self):
        n = min(131072, self.base + len(self.out) - self.sent)
        if self.got - self.acked >= 524288:
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
    os.umask(0o77)
    for left in (2, 1, 0):
        # The disk of the first may be full.
        d = folder(left == 0)
        path = d + "/" + name
        l = socket.socket(socket.AF_UNIX)
        try:
            sweep(d)
            # It has its name when it listens: before that others would take it for a left one.
            l.bind(d + "/." + name)
            l.listen(4)
            os.rename(d + "/." + name, path)
            break
        except OSError as error:
            # Another keeper has just ended and removed the folder, perhaps.
            if not left:
                refuse("socket", words_of(error))
    try:
        pid = os.fork()
    except OSError as error:
        refuse("fork", words_of(error))
    if pid == 0:
        os.setsid()
        if os.fork():
            leave(0)
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
            leave(1)
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
`.trim();

/** Runs the first of its arguments, or says the second where python is too old. */
export const runPython =
  "import sys; exec(sys.argv[1].replace(chr(96), chr(10))) if sys.version_info >= (3, 5) else " +
  "print(sys.argv[2])";
