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

from client import check

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


def shown(key):
    return subprocess.check_output(["systemctl", "show", "-P", key, "renga.service"], text=True).strip()


def test_the_whole_life_under_systemd(renga):
    """Start, crash, restart, stop, removal."""
    if not SYSTEMD.is_dir() or os.geteuid() != 0:
        return "skipped: this machine was not started by systemd, or this is not root"
    if Path(UNIT).exists():
        return "skipped: a renga service is installed here"
    home = Path("/srv/renga-service-test")
    port = 52499
    try:
        shutil.copytree(renga.model, home / "model")
        shutil.copy2(renga.binary, home / "renga")
        (home / "flags.json").write_text(json.dumps({"api-port": port, "default-model": str(home / "model")}))
        subprocess.run([home / "renga", "service", "install", "--user", user(), "--config",
                        home / "flags.json"], check=True, timeout=120)
        wait_for("an answer", 30, lambda: answers(port))
        first = shown("MainPID")
        os.kill(int(first), signal.SIGKILL)
        wait_for("a restart", 30, lambda: shown("MainPID") not in ("0", first) and answers(port))
        subprocess.run(["systemctl", "stop", "renga.service"], check=True, timeout=60)
        check(shown("Result") == "success" and not answers(port), shown("Result"))
        subprocess.run(["systemctl", "start", "renga.service"], check=True, timeout=60)
        wait_for("an answer", 30, lambda: answers(port))
        subprocess.run([home / "renga", "service", "uninstall"], check=True, timeout=120)
        check(not Path(UNIT).exists() and not answers(port), "it is still there")
    finally:
        subprocess.run(["systemctl", "disable", "--now", "renga.service"], capture_output=True)
        Path(UNIT).unlink(missing_ok=True)
        shutil.rmtree(home, ignore_errors=True)
    return None
