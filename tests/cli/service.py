"""`renga service`: what it writes for launchd and systemd, and the life of the daemon under them."""
import json
import os
import plistlib
import shlex
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from client import Failure, check

TINY = Path(__file__).resolve().parent.parent / "golden" / "tiny"
SYSTEMD = Path("/run/systemd/system")
UNIT = "/etc/systemd/system/renga.service"
PLIST = "/Library/LaunchDaemons/org.renga.daemon.plist"
NEWSYSLOG = "/etc/newsyslog.d/renga.conf"
# every character that one of the two languages or a shell would take for itself
NASTY = "mo del's \"q\" %h $HOME ${x} a&b <c> \\n ;@ \u9023\u6b4c"


def user():
    return "daemon" if os.geteuid() == 0 else subprocess.check_output(["id", "-un"], text=True).strip()


def dry(renga, action, *flags, **how):
    """-> {path: text} and the commands"""
    out = renga.good("service", action, "--dry-run", *flags, **how).decode()
    parts, name = {}, None
    for line in out.splitlines():
        if line.startswith("==> ") and line.endswith(" <=="):
            name = line[4:-4]
            parts[name] = []
        else:
            parts[name].append(line)
    commands = [shlex.split(x) for x in parts.pop("commands")]
    return {k: "\n".join(v).rstrip("\n") + "\n" for k, v in parts.items()}, commands


def arguments_of(renga, *flags):
    """The command line that launchd would run, after caffeinate."""
    files, _ = dry(renga, "install", "--init", "launchd", "--user", user(), *flags)
    words = plistlib.loads(files[PLIST].encode())["ProgramArguments"]
    check(words[:2] == ["/usr/bin/caffeinate", "-s"], words)
    check(words[-2:] == ["--log-file", "/var/log/renga/renga.log"], words)
    return words[2:-2]


def systemd_words(line):
    """An ExecStart line as systemd.service(5) reads it."""
    words, word, quoted, at = [], None, False, 0
    while at < len(line):
        c = line[at]
        if c == "\\":
            at += 1
            word = (word or "") + line[at]
        elif c == '"':
            quoted = not quoted
            word = word or ""
        elif c == " " and not quoted:
            if word is not None:
                words.append(word)
            word = None
        elif c in "%$":
            check(line[at:at + 2] == 2 * c or (c == "$" and not words), "a lone", c, line)
            at += line[at:at + 2] == 2 * c
            word = (word or "") + c
        else:
            word = (word or "") + c
        at += 1
    check(not quoted, line)
    return words + ([word] if word is not None else [])


def test_launchd_files(renga):
    model = renga.work / NASTY
    files, commands = dry(renga, "install", "--init", "launchd", "--user", user(), "--default-model", model,
                          "--node-id", "m2", "--discovery-config-path", "/etc/ring.json")
    check(set(files) == {PLIST, NEWSYSLOG}, set(files))
    got = plistlib.loads(files[PLIST].encode())
    check(got["Label"] == "org.renga.daemon" and got["UserName"] == user(), got)
    check(got["ProgramArguments"] == [
        "/usr/bin/caffeinate", "-s", renga.binary, "serve", "--default-model", str(model),
        "--discovery-config-path", "/etc/ring.json", "--node-id", "m2",
        "--log-file", "/var/log/renga/renga.log"], got["ProgramArguments"])
    check(got["ProcessType"] == "Interactive" and got["RunAtLoad"] is True, got)
    check(got["KeepAlive"] == {"SuccessfulExit": False} and got["ThrottleInterval"] == 10, got)
    check(got["ExitTimeOut"] > 30, got["ExitTimeOut"])
    for limits in ("SoftResourceLimits", "HardResourceLimits"):
        check(got[limits]["NumberOfFiles"] >= 16384, got[limits])
    check(got["StandardErrorPath"] == "/var/log/renga/renga.log", got)
    check(got["EnvironmentVariables"]["HOME"].startswith("/"), got)

    lines = [x.split() for x in files[NEWSYSLOG].splitlines() if x and not x.startswith("#")]
    check(len(lines) == 1 and len(lines[0]) == 9, lines)
    path, owner, mode, count, size, when, flags, pid_file, number = lines[0]
    check(path == got["StandardErrorPath"] and pid_file == path + ".pid", lines)
    check(owner.split(":")[0] == user() and owner.count(":") == 1 and not owner.endswith(":"), owner)
    check(int(mode, 8) == 0o640 and int(count) > 0 and int(size) > 0 and when == "*", lines)
    check(set(flags) <= set("BCDGJNUWZ") and int(number) == signal.SIGHUP, lines)

    words = [c[:2] for c in commands]
    check(["launchctl", "bootstrap"] in words and commands[-1][-1] == PLIST, commands)
    check(words.index(["launchctl", "bootout"]) < words.index(["launchctl", "bootstrap"]), commands)
    _, commands = dry(renga, "uninstall", "--init", "launchd")
    check(commands[0] == ["launchctl", "bootout", "system/org.renga.daemon"], commands)
    check(commands[1:] == [["rm", "-f", PLIST], ["rm", "-f", NEWSYSLOG]], commands)


def unit_of(renga, *flags, **how):
    files, commands = dry(renga, "install", "--init", "systemd", "--user", user(), *flags, **how)
    check(set(files) == {UNIT}, set(files))
    sections = {}
    for line in files[UNIT].splitlines():
        if line.startswith("["):
            section = sections.setdefault(line, {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section[key] = value
    return files[UNIT], sections, commands


def test_systemd_files(renga):
    model = renga.work / NASTY
    text, unit, commands = unit_of(renga, "--default-model", model)
    service = unit["[Service]"]
    check(systemd_words(service["ExecStart"]) == [renga.binary, "serve", "--default-model", str(model)],
          service["ExecStart"])
    check(service["Type"] == "exec" and service["User"] == user(), service)
    check(service["Restart"] == "on-failure" and int(service["RestartSec"]) > 0, service)
    check(int(service["TimeoutStopSec"]) > 30 and int(service["LimitNOFILE"]) >= 16384, service)
    check(unit["[Install]"]["WantedBy"] == "multi-user.target", unit)
    check(commands == [["systemctl", "daemon-reload"], ["systemctl", "enable", "renga.service"],
                       ["systemctl", "restart", "renga.service"]], commands)
    _, commands = dry(renga, "uninstall", "--init", "systemd")
    check(commands == [["systemctl", "disable", "--now", "renga.service"], ["rm", "-f", UNIT]], commands)
    if not shutil.which("systemd-analyze"):
        return "skipped systemd-analyze: it is not here"
    path = renga.work / "renga.service"
    path.write_text(text)
    p = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    said = [x for x in (p.stdout + p.stderr).splitlines() if "renga" in x]
    check(p.returncode == 0 and not said, p.returncode, p.stdout, p.stderr)
    path.write_text(text.replace("Type=exec", "Type=exek"))
    p = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    check("exek" in p.stdout + p.stderr, "systemd-analyze finds nothing")
    return "systemd-analyze verify"


def test_a_program_in_a_folder_with_a_nasty_name(renga):
    folder = renga.work / f"p {NASTY}"
    folder.mkdir()
    program = folder / "renga"
    shutil.copy2(renga.binary, program)
    p = subprocess.run([program, "service", "install", "--dry-run", "--init", "systemd", "--user", user(),
                        "--default-model", "/m"], capture_output=True, text=True)
    line = next(x for x in p.stdout.splitlines() if x.startswith("ExecStart="))
    check(systemd_words(line.split("=", 1)[1])[0] == str(program), line)
    shutil.rmtree(folder)


def test_service_flags_become_absolute(renga):
    here = Path.cwd()
    words = arguments_of(renga, "--default-model", "./x", "--tls-dir", "tls", "--discovery-config-path", "r.json",
                         "--insecure-peers")
    check(words == [renga.binary, "serve", "--default-model", f"{here}/./x", "--discovery-config-path",
                    f"{here}/r.json", "--tls-dir", f"{here}/tls", "--insecure-peers"], words)
    registry = renga.work / "models.json"
    registry.write_text("{}")
    words = arguments_of(renga, "--default-model", "small", "--registry", registry)
    check(words[2:] == ["--default-model", "small", "--registry", str(registry)], words)


def test_what_the_config_file_says_stays_there(renga):
    config = renga.work / "service.json"
    config.write_text(json.dumps({"default-model": "/models/k2", "tls-dir": "/etc/tls", "api-port": 1234,
                                  "node-id": "m2", "discovery-config-path": "ring.json"}))
    words = arguments_of(renga, "--config", config, "--node-id", "m3")
    check(words == [renga.binary, "serve", "--config", str(config), "--discovery-config-path",
                    f"{Path.cwd()}/ring.json", "--node-id", "m3"], words)


def test_service_says_what_is_wrong(renga):
    who = ("--user", user(), "--dry-run")
    renga.refused(2, "install or uninstall", "service")
    renga.refused(2, "install or uninstall", "service", "restart")
    renga.refused(2, "--default-model", "service", "install", *who)
    renga.refused(2, "no user 'no-such-user'", "service", "install", "--dry-run", "--user", "no-such-user",
                  "--default-model", "/m")
    renga.refused(2, "control character", "service", "install", *who, "--default-model", "/a\nb")
    renga.refused(2, "launchd or systemd", "service", "install", *who, "--init", "upstart",
                  "--default-model", "/m")
    renga.refused(2, "/nonexistent", "service", "install", *who, "--config", "/nonexistent",
                  "--default-model", "/m")
    if os.geteuid() == 0:
        renga.refused(2, "--user NAME", "service", "install", "--dry-run", "--default-model", "/m")


# ---- with rights ---------------------------------------------------------------------------------

# A mount namespace of its own: /etc/systemd/system is empty there, and systemctl writes down what it
# is told.
STAGE = """set -e
mount -t tmpfs none /etc/systemd
mkdir /etc/systemd/system
mount -t tmpfs none /run
mkdir -p /run/systemd/system
exec "$@"
"""


def staged(renga, *args, status=0):
    """-> the result, the installed unit or None, and what systemctl was told"""
    tools, log = renga.work / "stage", renga.work / "stage" / "log"
    tools.mkdir(exist_ok=True)
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>"{log}"\necho talk\nexit {status}\n')
    (tools / "systemctl").chmod(0o755)
    log.write_text("")
    kept = renga.work / "stage" / "renga.service"
    script = STAGE.replace('exec "$@"', f"""
test ! -e {shlex.quote(str(kept))} || cp {shlex.quote(str(kept))} {UNIT}
status=0; "$@" || status=$?
rm -f {shlex.quote(str(kept))}; test ! -e {UNIT} || cp {UNIT} {shlex.quote(str(kept))}
exit $status""")
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    p = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", renga.binary, "service", *map(str, args)],
                       capture_output=True, text=True, env=env, timeout=60)
    unit = kept.read_text() if kept.exists() else None
    return p, unit, log.read_text().splitlines()


def can_stage():
    if os.geteuid() != 0 or not shutil.which("unshare") or not Path("/etc/systemd").is_dir():
        return False
    return subprocess.run(["unshare", "-m", "sh", "-c", STAGE, "sh", "true"], capture_output=True).returncode == 0


def test_install_and_uninstall_do_what_the_dry_run_says(renga):
    if not can_stage():
        return "skipped: no right to mount in a namespace"
    flags = ("--user", user(), "--default-model", TINY / "llama-mixed_346")
    text, _, _ = unit_of(renga, *flags)
    p, unit, told = staged(renga, "install", *flags)
    check(p.returncode == 0 and "installed" in p.stdout and "talk" not in p.stdout, p.stdout, p.stderr)
    check(unit == text, unit)
    check(told == ["daemon-reload", "enable renga.service", "restart renga.service"], told)
    p, unit, _ = staged(renga, "install", *flags, "--node-id", "m3")
    check(p.returncode == 0 and "--node-id m3" in unit, "a second install does not replace the first")
    p, unit, told = staged(renga, "uninstall")
    check(p.returncode == 0 and unit is None, p.stderr, unit)
    check(told == ["disable --now renga.service", "daemon-reload"], told)
    p, unit, told = staged(renga, "uninstall")
    check(p.returncode == 2 and "nothing is installed" in p.stderr and told == [], p.stderr, told)
    p, unit, told = staged(renga, "install", *flags, status=1)
    check(p.returncode == 1 and "systemctl daemon-reload" in p.stderr, p.stderr)
    staged(renga, "uninstall")
    for wrong in (("--default-model", "/nonexistent"), ("--tls-dir", "/nonexistent"),
                  ("--discovery-config-path", "/nonexistent")):
        p, unit, told = staged(renga, "install", *flags, *wrong)
        check(p.returncode == 2 and "/nonexistent" in p.stderr and unit is None and told == [], p.stderr)
    return None


def test_without_root_the_sudo_command_is_told(renga):
    model = renga.work / "a model"
    args = [renga.binary, "service", "install", "--default-model", str(model), "--init", "systemd"]
    if os.geteuid() == 0:
        p = subprocess.run(["unshare", "-m", "sh", "-c", STAGE, "sh", "setpriv", "--reuid=65534",
                            "--clear-groups", *args], capture_output=True, text=True)
        if "ermission denied" in p.stderr or not can_stage():
            return "skipped: no other user may run this binary here"
    elif SYSTEMD.is_dir():
        p = subprocess.run(args, capture_output=True, text=True)
    else:
        return "skipped: no systemd"
    check(p.returncode == 2, p.returncode, p.stderr)
    line = f"sudo {renga.binary} service install --default-model '{model}'\n"
    check(p.stderr.startswith("renga: ") and p.stderr.endswith(line), p.stderr)
    return None


# ---- a life --------------------------------------------------------------------------------------

def test_a_log_file_begins_anew_on_hangup(renga):
    log, moved = renga.work / "daemon.log", renga.work / "daemon.log.0"
    p = subprocess.Popen([renga.binary, "serve", str(renga.model), "--api-port", "0", "--log-file", log],
                         stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (log.exists() and "listening" in log.read_text()):
            time.sleep(0.05)
        check("listening" in log.read_text(), log.read_text())
        check(int((renga.work / "daemon.log.pid").read_text()) == p.pid, "the pid file")
        log.rename(moved)
        p.send_signal(signal.SIGHUP)
        while time.monotonic() < end and not log.exists():
            time.sleep(0.05)
        check(log.exists() and p.poll() is None, "SIGHUP makes no new file")
        before = moved.read_text()
        p.send_signal(signal.SIGTERM)
        _, said = p.communicate(timeout=60)
        check(p.returncode == 0 and said == b"", p.returncode, said)
        check(log.read_text() != "" and moved.read_text() == before, "the new file stays empty")
    finally:
        p.kill()
    renga.refused(1, "--log-file", "serve", renga.model, "--log-file", "/nonexistent/x.log")


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as r:
            return r.status == 200
    except OSError:
        return False


def wait_for(what, seconds, so):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if so():
            return
        time.sleep(0.2)
    check(False, what, "not within", seconds, "s")


# systemd as the first process of its own namespaces, with a few targets and no other unit: what the
# machine has would be started too.
BOOT = """set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs none /run
mkdir /run/lock
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /lib/systemd/system
mount -t tmpfs none /etc/systemd/system
for t in sysinit basic multi-user network-online shutdown; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $t >/lib/systemd/system/$t.target
done
ln -s multi-user.target /lib/systemd/system/default.target
container=test exec /lib/systemd/systemd --system --log-target=null --show-status=no
"""


class Machine:
    """One that systemd has started: this one, or namespaces."""

    def __init__(self):
        self.process, self.enter = None, []
        if SYSTEMD.is_dir():
            return
        self.process = subprocess.Popen(
            ["unshare", "-m", "-p", "-f", "-C", "-u", "--kill-child=KILL", "sh", "-c", BOOT],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_up(self):
        if self.process and not self.enter:
            pid = self.process.pid
            child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not child:
                return False
            self.enter = ["nsenter", "-t", child[0], "-m", "-p", "-C", "-u"]
        state = self("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def __call__(self, *args, check=True, **how):
        p = subprocess.run([*self.enter, *map(str, args)], capture_output=True, text=True, timeout=120, **how)
        if check and p.returncode:
            raise Failure(f"{args}: exit {p.returncode}: {p.stderr}")
        return p

    def shown(self, key):
        return self("systemctl", "show", "-P", key, "renga.service").stdout.strip()

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def can_boot():
    """Whether the namespaces can be made; says why not."""
    if SYSTEMD.is_dir():
        return "" if os.geteuid() == 0 and not Path(UNIT).exists() else "not root, or renga is installed"
    if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
        return "no systemd, or not root"
    script = BOOT[:BOOT.index("mount -t tmpfs none /lib")]
    p = subprocess.run(["unshare", "-m", "-p", "-f", "-C", "-u", "sh", "-c", script], capture_output=True, text=True)
    return p.stderr.strip()


def live(machine, renga, home, port):
    wait_for("systemd", 60, machine.is_up)
    flags = {"api-port": port, "default-model": str(home / "model")}
    (home / "flags.json").write_text(json.dumps(flags))
    machine(home / "renga", "service", "install", "--user", user(), "--config", home / "flags.json")
    wait_for("an answer", 60, lambda: answers(port))
    check(machine.shown("User") == user() and machine.shown("UnitFileState") == "enabled", "user, enabled")

    first = machine.shown("MainPID")
    machine("kill", "-KILL", first)
    wait_for("a restart", 60, lambda: machine.shown("MainPID") not in ("0", first) and answers(port))
    machine("systemctl", "stop", "renga.service")
    check(machine.shown("Result") == "success" and not answers(port), machine.shown("Result"))

    (home / "flags.json").write_text(json.dumps({**flags, "api-port": -1}))
    machine("systemctl", "start", "renga.service", check=False)
    wait_for("the end", 60, lambda: machine.shown("ActiveState") == "failed")
    check(machine.shown("ExecMainStatus") == "2", machine.shown("ExecMainStatus"))
    time.sleep(6)
    check(machine.shown("ActiveState") == "failed", "wrong flags are tried again and again")
    (home / "flags.json").write_text(json.dumps(flags))
    machine("systemctl", "restart", "renga.service")
    wait_for("an answer", 60, lambda: answers(port))

    machine(home / "renga", "service", "uninstall")
    check(not answers(port), "it still answers")
    check(machine("test", "-e", UNIT, check=False).returncode != 0, "the unit is still there")
    machine(home / "renga", "service", "uninstall", check=False)


def test_the_whole_life_under_systemd(renga):
    """Start, crash, restart, stop, wrong flags, removal."""
    why_not = can_boot()
    if why_not:
        return f"skipped: {why_not}"
    home = Path("/srv/renga-service-test")
    machine = Machine()
    try:
        shutil.copytree(renga.model, home / "model")
        shutil.copy2(renga.binary, home / "renga")
        live(machine, renga, home, 52499)
    finally:
        if machine.enter or not machine.process:
            machine("systemctl", "disable", "--now", "renga.service", check=False)
        if not machine.process:
            Path(UNIT).unlink(missing_ok=True)
        machine.close()
        shutil.rmtree(home, ignore_errors=True)
    return "in namespaces" if machine.process else "of this machine"
