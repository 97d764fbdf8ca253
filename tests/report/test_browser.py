"""The page in a real browser: it is drawn, fits a phone, makes no request, and nothing in it runs."""

import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which .ci/board_tools installs"),
]

# A frame as wide as a phone, in a page of the test's own, which writes down what it measured in it.
_PROBE = """<!doctype html><title>probe</title><body style="margin:0">
<iframe id="f" src="report.html" style="width:390px;height:844px;border:0"></iframe><pre id="out"></pre>
<script>
document.getElementById('f').onload = () => {
  const d = document.getElementById('f').contentDocument, sizes = [], outside = [];
  for (const e of d.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (own) sizes.push(parseFloat(d.defaultView.getComputedStyle(e).fontSize));
    const box = e.getBoundingClientRect();
    if (!e.closest('.scroll') && box.right > 391) outside.push(e.tagName);
  }
  document.getElementById('out').textContent = 'PROBE' + JSON.stringify({
    title: d.title, width: d.scrollingElement.scrollWidth, least: Math.min(...sizes), texts: sizes.length,
    outside, pictures: [...d.images].every(i => i.complete && i.naturalWidth > 0), count: d.images.length,
  }) + 'END';
};
</script>"""


def browse(folder, *arguments):
    """Runs Chromium without a window; returns what it printed."""
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    words += ["--disable-dev-shm-usage", "--virtual-time-budget=4000"]
    words += ["--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([*words, *arguments], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done


def measure(folder, report):
    """Returns what the probe found on the page of ``report``, at a phone's width."""
    report.save_html(folder / "report.html")
    (folder / "probe.html").write_text(_PROBE)
    done = browse(
        folder, "--allow-file-access-from-files", "--dump-dom", (folder / "probe.html").as_uri()
    )
    found = re.search("PROBE({.*?})END</pre>", done.stdout)
    assert found, done.stdout[-500:]
    text = found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(text)


def test_a_phone_can_read_it(report, tmp_path):
    seen = measure(tmp_path, report)
    assert seen["title"] == "layer on layer"
    assert seen["width"] <= 390
    assert seen["outside"] == []
    assert seen["least"] >= 12
    assert seen["texts"] > 200
    assert seen["pictures"]
    assert seen["count"] == len(report.changed)


def test_nothing_in_hostile_names_runs(hostile, tmp_path):
    seen = measure(tmp_path, hostile)
    assert seen["title"] != "taken"
    assert seen["width"] <= 390


@pytest.mark.parametrize("width", [390, 1200])
def test_it_is_drawn_and_asks_for_nothing(hostile, tmp_path, width):
    from PIL import Image

    hostile.save_html(tmp_path / "report.html")
    log, shot = tmp_path / "net.json", tmp_path / "shot.png"
    done = browse(
        tmp_path,
        f"--log-net-log={log}",
        f"--screenshot={shot}",
        f"--window-size={width},1600",
        (tmp_path / "report.html").as_uri(),
    )
    assert "CONSOLE" not in done.stderr
    with Image.open(shot) as picture:
        colors = picture.convert("RGB").getcolors(1 << 20)
    assert len(colors) > 20
    # The paper is most of it, and not all of it.
    share = max(count for count, _ in colors) / sum(count for count, _ in colors)
    assert 0.3 < share < 0.97
    assert list_requests(log) == []


def test_a_page_that_asks_is_found_out(tmp_path):
    page, log = tmp_path / "page.html", tmp_path / "net.json"
    page.write_text('<!doctype html><p>x<img src="http://127.0.0.1:9/x.png">')
    browse(tmp_path, f"--log-net-log={log}", f"--screenshot={tmp_path / 's.png'}", page.as_uri())
    assert "http://127.0.0.1:9/x.png" in list_requests(log)


def list_requests(log):
    """Returns what pages asked for; what the browser asks for by itself has no page as its origin."""
    found = []
    for line in log.read_text().splitlines():
        url = re.search(r'"url":"([a-z]+:[^"]*)"', line)
        origin = re.search(r'"initiator":"([^"]*)"', line)
        if url and origin and origin.group(1) != "not an origin":
            found.append(url.group(1))
    return found
