"""Open a report in Chromium, use it as a reader would, and say what came of it.

    python scripts/check_report.py REPORT.html [--shots DIRECTORY] [--height PIXELS]

Chromium is driven through a pair of pipes, so that nothing needs to be installed beside it. The exit status is 1 if
the page asks for anything from outside, logs an error, is too large or too slow, or does not do what it should.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LARGEST = 3_000_000
"""Bytes of a page."""
SLOWEST = 1_000.0
"""Milliseconds until the first paint with content."""
SCREENS = {"wide": (1440, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")

SORTS = """(() => {
  const table = document.querySelector("table.sortable"), button = table.querySelector("th.n button");
  if (!button) return "no button";
  const head = button.closest("th"), column = head.cellIndex;
  const values = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.v));
  const rising = (list) => list.every((value, i) => !i || list[i - 1] <= value);
  button.click();
  const up = rising(values()) && head.getAttribute("aria-sort") === "ascending";
  button.click();
  const down = rising(values().reverse()) && head.getAttribute("aria-sort") === "descending";
  return up && down ? "" : "not sorted";
})()"""
POINT = """(() => {
  const band = document.querySelector(".band");
  if (!band) return null;
  band.scrollIntoView({ block: "center" });
  const box = band.querySelector("svg").getBoundingClientRect();
  const data = JSON.parse(document.getElementById("points").textContent), own = data.bands[0];
  return { x: box.left + own.x[0] / 1000 * box.width, y: box.top + own.y[0], e: own.e[0], text: data.texts[own.t[0]] };
})()"""
TIP = "(() => { const tip = document.querySelector('.tip'); return tip.hidden ? '' : tip.textContent; })()"
OUTSIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PAINT = """new Promise((done) => {
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") done(entry.startTime);
  }).observe({ type: "paint", buffered: true });
  setTimeout(() => done(null), 5000);
})"""


class Page:
    """One page of a browser that is driven through pipes."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._rest, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []

    def open(self) -> None:
        """Make the page and ask for its events."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def load(self, path: Path) -> None:
        """Load a file and wait until it has been painted."""
        self.send("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + 30
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            if time.monotonic() > end:
                raise RuntimeError("the page did not load within 30 seconds")
            self._receive()
        # Two frames later everything that loading has asked for is on the screen.
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise RuntimeError("the browser has ended")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def browser_page(browser: str) -> Iterator[Page]:
    """A page of a new browser without a window, which ends afterwards."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads commands from its file 3 and writes answers to its file 4.
        shell = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"'
        arguments = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking", "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]  # fmt: skip
        process = subprocess.Popen(
            ["sh", "-c", shell, "sh", *arguments], pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        page = Page(commands, answers)
        try:
            page.open()
            yield page
        finally:
            process.terminate()
            process.wait()
            os.close(commands)
            os.close(answers)


def check(path: Path, browser: str, shots: Path | None = None, most: int | None = None) -> tuple[list[str], list[str]]:
    """(what was seen, what is wrong); pictures show at most the first `most` pixels of the page."""
    seen, wrong = [], []
    size = path.stat().st_size
    seen.append(f"size           {size:,} bytes")
    if size > LARGEST:
        wrong.append(f"the page has {size:,} bytes, more than {LARGEST:,}")
    with browser_page(browser) as page:
        page.send("Emulation.setDeviceMetricsOverride", width=1440, height=900, deviceScaleFactor=1, mobile=False)
        page.load(path)
        paint = page.evaluate(PAINT)
        seen.append("first paint    " + ("not within 5 s" if paint is None else f"{paint:.0f} ms"))
        if paint is None or paint > SLOWEST:
            wrong.append(f"the first paint took longer than {SLOWEST:.0f} ms")
        if page.evaluate("document.querySelector('table.sortable') !== null"):
            told = page.evaluate(SORTS)
            seen.append(f"tables sort    {told or 'yes'}")
            wrong += [f"tables: {told}"] * bool(told)
        wrong += _check_points(page, seen)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        for screen, (width, height) in SCREENS.items():
            page.send(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                mobile=screen == "phone",
            )  # fmt: skip
            beyond = page.evaluate(OUTSIDE)
            seen.append(f"{width} px wide   " + (f"{beyond} px beyond the screen" if beyond else "fits"))
            wrong += [f"at {width} px the page is {beyond} px too wide"] * bool(beyond)
            for scheme in SCHEMES:
                page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                if shots is not None:
                    _save(page, shots / f"{path.stem}_{screen}_{scheme}.png", most)
        page.send("Emulation.setEmulatedMedia", features=[])
        printed = base64.b64decode(page.send("Page.printToPDF", printBackground=True)["data"])
        seen.append(f"printed        {len(printed):,} bytes of PDF")
        wrong += ["printing gives no PDF"] * (not printed.startswith(b"%PDF"))
        if shots is not None:
            (shots / f"{path.stem}.pdf").write_bytes(printed)
        asked, errors = _asked_for(page.events, path), _errors(page.events)
    seen += [f"requests       {len(asked)} beside the page itself", f"errors         {len(errors)}"]
    wrong += [f"the page asks for {url}" for url in asked] + [f"the page logs: {error}" for error in errors]
    return seen, wrong


def _check_points(page: Page, seen: list[str]) -> list[str]:
    """Point at a text with the pointer, then reach another with the keyboard."""
    point = page.evaluate(POINT)
    if point is None:
        return []
    # Where a text is cut differently by its word, its longest piece is found all the same.
    piece = max(point["text"].split("[MASK]"), key=len)
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=point["x"], y=point["y"])
    by_pointer = page.evaluate(TIP)
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    page.evaluate("document.querySelector('.band').focus({ focusVisible: true })")
    for key in ("Home", "End", "ArrowLeft"):
        page.send("Input.dispatchKeyEvent", type="keyDown", key=key)
    by_keys = page.evaluate(TIP)
    page.send("Input.dispatchKeyEvent", type="keyDown", key="Escape")
    seen += [f"pointer shows  {by_pointer[:100]!r}", f"keys show      {by_keys[:100]!r}"]
    wrong = [] if piece in by_pointer else [f"the pointer shows {by_pointer!r}, not {piece!r}"]
    wrong += [] if by_keys and by_keys != by_pointer else [f"the arrow keys show {by_keys!r}"]
    return wrong + ([] if page.evaluate(TIP) == "" else ["Escape does not hide the text"])


def _save(page: Page, file: Path, most: int | None) -> None:
    height = page.evaluate("document.documentElement.scrollHeight")
    height = height if most is None else min(height, most)
    width = page.evaluate("document.documentElement.clientWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = page.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    file.write_bytes(base64.b64decode(taken["data"]))


def _asked_for(events: Sequence[dict[str, Any]], path: Path) -> list[str]:
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if url.partition("#")[0] != path.resolve().as_uri()]


def _errors(events: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for event in events:
        parameters = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            found.append(str(parameters["exceptionDetails"]["text"]))
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            found.append(parameters["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled":
            found.append(str([value.get("value") for value in parameters["args"]]))
    return found


def find_browser() -> str | None:
    """The path of a Chromium; None without one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def main() -> int:
    """Check one page; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--shots", type=Path, help="directory for pictures of the page and its PDF")
    parser.add_argument("--height", type=int, help="pixels from the top that pictures show; default: the whole page")
    given = parser.parse_args()
    browser = find_browser()
    if browser is None:
        print(f"No browser was found; looked for {', '.join(BROWSERS)}.", file=sys.stderr)
        return 2
    if given.shots is not None:
        given.shots.mkdir(parents=True, exist_ok=True)
    seen, wrong = check(given.report, browser, given.shots, given.height)
    print("\n".join(seen))
    for problem in wrong:
        print(f"WRONG: {problem}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
