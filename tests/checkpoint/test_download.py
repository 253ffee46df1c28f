import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from loopback import Page

from mmplugins.checkpoint import download as module
from mmplugins.checkpoint.download import DownloadError, download
from mmplugins.checkpoint.reading import CheckpointError


@pytest.fixture
def body(weight_file):
    return weight_file.read_bytes()


@pytest.fixture
def fetch(site, tmp_path):
    """Function that downloads /w.pth of the site, which becomes a page if one is given."""

    def fetch(page=None, name="w.pth", **how):
        if page is not None:
            site.pages["/w.pth"] = page
        return download(site.url("/w.pth"), tmp_path / name, **how)

    return fetch


def test_fetches_and_leaves_nothing_else(fetch, body, tmp_path):
    target = fetch(Page(body), "cache/w.pth")
    assert target == tmp_path / "cache/w.pth" and target.read_bytes() == body
    assert [path.name for path in target.parent.iterdir()] == ["w.pth"]


def test_existing_file_is_not_fetched_again(site, fetch, body):
    fetch(Page(body))
    fetch()
    assert site.times("/w.pth") == 1


def test_resumes_where_the_host_broke_off(site, fetch, body):
    assert fetch(Page(body, breaks=[5000, 6000])).read_bytes() == body
    assert [asked for _, asked in site.asked] == [None, "bytes=5000-", "bytes=11000-"]


def test_resumes_what_an_earlier_run_left(site, fetch, body, tmp_path):
    with pytest.raises(DownloadError, match="broken off after 300 of"):
        fetch(Page(body, breaks=[100, 100, 100]))
    assert not (tmp_path / "w.pth").exists()
    assert (tmp_path / "w.pth.part").stat().st_size == 300
    assert fetch().read_bytes() == body
    assert site.asked[-1][1] == "bytes=300-"


def test_begins_again_if_the_file_changed_meanwhile(fetch, body):
    with pytest.raises(DownloadError):
        fetch(Page(b"\x80" + b"x" * 9000, etag='"old"', breaks=[500, 500, 500]))
    assert fetch(Page(body, etag='"new"')).read_bytes() == body


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_a_strong_mark_nothing_is_pieced_together(site, fetch, body, etag):
    assert fetch(Page(body, etag=etag, breaks=[5000])).read_bytes() == body
    assert [asked for _, asked in site.asked] == [None, None]


def test_host_without_ranges_sends_all_again(fetch, body):
    assert fetch(Page(body, ranges=False, breaks=[5000])).read_bytes() == body


def test_part_that_is_already_whole_is_fetched_anew(fetch, body, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(body)
    (tmp_path / "w.pth.part.tag").write_text('"1"')
    assert fetch(Page(body)).read_bytes() == body


def test_length_unknown(fetch, body):
    assert fetch(Page(body, endless=True)).read_bytes() == body


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Page(b"no", status=404), "404"),
        (Page(b"no", status=503), "503"),
        (Page(b"<html>log in</html>", kind="text/html; charset=utf-8"), "web page"),
        (Page(b"<!DOCTYPE html><html></html>"), "web page"),
        (Page(b""), "is empty"),
        (Page(b"hello, this is text"), "no weight file"),
    ],
)
def test_answers_that_are_no_weights(fetch, tmp_path, page, message):
    with pytest.raises(CheckpointError, match=message):
        fetch(page)
    assert not {"w.pth", "w.pth.part"} & {path.name for path in tmp_path.iterdir()}


def test_hash_is_checked(fetch, body, tmp_path):
    right = hashlib.sha256(body).hexdigest()
    with pytest.raises(DownloadError, match=f"{right[:16]}.*expected 01234567"):
        fetch(Page(body), sha256="01234567")
    assert not (tmp_path / "w.pth").exists()
    assert fetch(sha256=right[:8].upper())


def test_silent_and_absent_hosts(site, fetch):
    site.server.shutdown()
    site.server.server_close()
    with pytest.raises(DownloadError, match="refused|URLError|Connection"):
        fetch()


def test_full_disk_is_told_before_the_download(site, fetch, body, tmp_path, monkeypatch):
    usage = module.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="10 bytes free"):
        fetch(Page(body))
    assert site.times("/w.pth") == 1


def test_many_processes_fetch_once(site, fetch, body, tmp_path):
    site.pages["/w.pth"] = Page(body)
    with ThreadPoolExecutor(6) as pool:
        results = [one.result() for one in [pool.submit(fetch) for _ in range(6)]]
    assert results == [tmp_path / "w.pth"] * 6
    assert results[0].read_bytes() == body
    assert site.times("/w.pth") == 1
