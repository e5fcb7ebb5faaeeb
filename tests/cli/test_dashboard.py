"""`needle dashboard`: what its server answers, and what a browser makes of it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
from contextlib import contextmanager

import pytest
from run_folders import TITLE, hold_lock, make_run

pytest.importorskip("typer")

from needle.cli.dashboard import DashboardServer, page
from needle.train import RunFolder

HOSTILE = '<img src=x onerror="window.hacked=1">\'"&'


@contextmanager
def serving(folder):
    server = DashboardServer(folder, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(server, path, host=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def runs(server):
    return {run["name"]: run for run in json.loads(ask(server, "/api/runs")[1])["runs"]}


def test_the_facts_of_runs(tmp_path):
    folder = make_run(tmp_path, bad=(2,))
    make_run(tmp_path, "lost", state="running", classes=None)
    (folder / "samples").mkdir()
    (folder / "samples" / "step-20.txt").write_text("once upon")
    with serving(tmp_path) as server:
        found = runs(server)
        assert {name: run["state"] for name, run in found.items()} == {
            "digits": "finished", "lost": "killed"
        }  # fmt: skip
        assert (found["digits"]["step"], found["digits"]["title"]) == (100, TITLE)
        _, body = ask(server, f"/api/run?id={found['digits']['id']}")
        facts = json.loads(body)
        assert facts["keys"][:3] == ["loss", "accuracy", "lr"]
        assert facts["curves"]["validation"]["loss"][2] is None
        assert len(facts["curves"]["train"]["step"]) == 25
        assert facts["config"]["model"]["width"] == 64
        assert facts["samples"] == ["step-20.txt"]
        assert (
            ask(server, f"/sample?id={found['digits']['id']}&name=step-20.txt")[1] == b"once upon"
        )
        with hold_lock(tmp_path / "lost"):
            assert runs(server)["lost"]["state"] == "running"
        RunFolder(folder).append({"step": 104, "split": "train", "loss": 0.5})
        assert runs(server)["digits"]["version"] != found["digits"]["version"]
        shutil.rmtree(folder)
        assert list(runs(server)) == ["lost"]


def test_long_curves_are_thinned(tmp_path):
    make_run(tmp_path, epochs=10, steps_an_epoch=4000, classes=None)
    with serving(tmp_path) as server:
        _, body = ask(server, f"/api/run?id={runs(server)['digits']['id']}")
        train = json.loads(body)["curves"]["train"]
    assert len(train["loss"]) == len(train["step"]) <= 1500
    assert train["step"][-1] == 40_000


def test_the_server_answers_this_machine_alone(tmp_path):
    with serving(tmp_path) as server:
        assert server.server_address[0] == "127.0.0.1"
        for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1.evil", "["):
            answer, _ = ask(server, "/api/runs", host)
            assert answer.status == 403
        for host in (f"localhost:{server.server_port}", f"127.0.0.1:{server.server_port}"):
            assert ask(server, "/api/runs", host)[0].status == 200
        assert ask(server, "/api/runs", method="POST")[0].status == 501


def test_no_file_outside_the_runs_is_served(tmp_path):
    folder = make_run(tmp_path)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "samples").mkdir()
    (folder / "samples" / "step-1.txt").symlink_to(tmp_path / "secret.txt")
    with serving(tmp_path) as server:
        name = runs(server)["digits"]["id"]
        for path in (
            "/../secret.txt", "/secret.txt", "//etc/passwd", "/api/run?id=../digits",
            f"/sample?id={name}&name=step-1.txt", f"/sample?id={name}&name=../config.toml",
            f"/sample?id={name}&name=%2e%2e%2fconfig.toml", f"/sample?id={name}", "/sample",
            "/api/run",
        ):  # fmt: skip
            answer, body = ask(server, path)
            assert (answer.status, b"secret" in body) == (404, False), path


def test_the_page_loads_nothing_and_runs_its_own_programs_alone(tmp_path):
    text = page("abc")
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert ".innerHTML" not in text
    with serving(tmp_path) as server:
        policy = ask(server, "/")[0].headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


# ---- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        pytest.skip("there is no chromium")
    with api.sync_playwright() as playwright:
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        found = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield found
        found.close()


@contextmanager
def opened(browser, server, **options):
    """A page without errors in its console."""
    errors = []
    context = browser.new_context(**options)
    tab = context.new_page()
    tab.set_default_timeout(8000)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    tab.goto(server.address)
    yield tab
    context.close()
    assert errors == []


def test_curves_in_a_browser(tmp_path, browser):
    folder = make_run(tmp_path, state="running", epochs=3, bad=(1,))
    with hold_lock(folder), serving(tmp_path) as server, opened(browser, server) as tab:
        loss = tab.locator('[data-key="loss"]')
        loss.locator("path.validation").wait_for(state="attached")
        assert tab.locator("#live").text_content() == "● live"
        assert tab.locator("progress").count() == 1
        assert loss.locator(".lost").count() == 6
        loss.locator("svg").hover(position={"x": 60, "y": 80})
        assert "digits train" in loss.locator(".tip").text_content()
        before = loss.locator("path.train").get_attribute("d")
        ticks = loss.locator(".ytick").all_text_contents()
        tab.locator("#log").check()
        assert loss.locator(".ytick").all_text_contents() != ticks
        tab.locator("#smooth").fill("0.9")
        assert loss.locator("path.faint").count() == 2
        # It draws what comes while it is open, and keeps what was chosen.
        tab.locator("#smooth").fill("0")
        tab.locator("#log").uncheck()
        RunFolder(folder).append({"step": 90, "epoch": 4, "split": "train", "loss": 0.1})
        loss.locator(f'path.train:not([d="{before}"])').wait_for(state="attached")
        tab.reload()
        loss.locator("path.train").wait_for(state="attached")


def test_several_runs_and_hostile_names_in_a_browser(tmp_path, browser):
    make_run(tmp_path, "a", seed=1)
    make_run(tmp_path, "b" * 200, classes=[HOSTILE] * 30, title=HOSTILE)
    bad = make_run(tmp_path, HOSTILE.replace("/", ""), classes=[HOSTILE, "x"], title=HOSTILE)
    (bad / "samples").mkdir()
    (bad / "samples" / "step-1.txt").write_text(HOSTILE)
    with open(bad / "metrics.jsonl", "a") as file:
        file.write(HOSTILE + "\n" + json.dumps({"step": 3, "split": "train", HOSTILE: 1.0}) + "\n")
    size = {"width": 400, "height": 800}
    with serving(tmp_path) as server, opened(browser, server, viewport=size) as tab:
        tab.locator("#runs input").first.wait_for()
        for box in tab.locator("#runs input").all():
            box.check()
        tab.locator('[data-key="loss"] path.validation').nth(2).wait_for(state="attached")
        assert HOSTILE in tab.locator("#problems").text_content()
        tab.click('[data-tab="configuration"]')
        assert tab.locator("tr.differs", has_text="run.seed").count() == 1
        tab.locator("#differences").check()
        assert tab.locator("#settings tr", has_text="model.width").count() == 0
        tab.click('[data-tab="confusion"]')
        assert tab.locator("#confusion .matrix").count() == 2
        assert tab.locator("#confusion canvas").count() == 1
        tab.click('[data-tab="samples"]')
        tab.locator("pre").wait_for()
        assert tab.locator("pre").text_content() == HOSTILE
        assert tab.evaluate("window.hacked") is None
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400


def test_an_empty_folder_in_a_browser(tmp_path, browser):
    with serving(tmp_path) as server, opened(browser, server, color_scheme="dark") as tab:
        tab.locator("#empty", has_text="no run in this folder").wait_for()
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.click("#theme")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        make_run(tmp_path)
        tab.locator("#runs .name", has_text="digits").wait_for()
