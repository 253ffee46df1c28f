import hashlib
import threading

import pytest
from loopback import Page

from mmplugins.checkpoint import download as module
from mmplugins.checkpoint.download import DownloadError, download
from mmplugins.checkpoint.reading import CheckpointError


@pytest.fixture
def body(weight_file):
    return weight_file.read_bytes()


def test_fetches_and_leaves_nothing_else(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body)
    target = tmp_path / "cache" / "w.pth"
    assert download(site.url("/w.pth"), target) == target
    assert target.read_bytes() == body
    assert [path.name for path in target.parent.iterdir()] == ["w.pth"]


def test_existing_file_is_not_fetched_again(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body)
    target = tmp_path / "w.pth"
    download(site.url("/w.pth"), target)
    download(site.url("/w.pth"), target)
    assert site.times("/w.pth") == 1


def test_resumes_where_the_host_broke_off(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body, breaks=[5000, 6000])
    target = download(site.url("/w.pth"), tmp_path / "w.pth")
    assert target.read_bytes() == body
    assert [asked for _, asked in site.asked] == [None, "bytes=5000-", "bytes=11000-"]


def test_resumes_what_an_earlier_run_left(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body, breaks=[100, 100, 100])
    target = tmp_path / "w.pth"
    with pytest.raises(DownloadError, match="broken off after 300 of"):
        download(site.url("/w.pth"), target)
    assert not target.exists()
    assert target.with_name("w.pth.part").stat().st_size == 300
    download(site.url("/w.pth"), target)
    assert target.read_bytes() == body
    assert site.asked[-1][1] == "bytes=300-"


def test_begins_again_if_the_file_changed_meanwhile(site, body, tmp_path):
    site.pages["/w.pth"] = Page(b"\x80" + b"x" * 9000, etag='"old"', breaks=[500, 500, 500])
    target = tmp_path / "w.pth"
    with pytest.raises(DownloadError):
        download(site.url("/w.pth"), target)
    site.pages["/w.pth"] = Page(body, etag='"new"')
    download(site.url("/w.pth"), target)
    assert target.read_bytes() == body


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_a_strong_mark_nothing_is_pieced_together(site, body, tmp_path, etag):
    site.pages["/w.pth"] = Page(body, etag=etag, breaks=[5000])
    assert download(site.url("/w.pth"), tmp_path / "w.pth").read_bytes() == body
    assert [asked for _, asked in site.asked] == [None, None]


def test_host_without_ranges_sends_all_again(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body, ranges=False, breaks=[5000])
    assert download(site.url("/w.pth"), tmp_path / "w.pth").read_bytes() == body


def test_part_that_is_already_whole_is_fetched_anew(site, body, tmp_path):
    target = tmp_path / "w.pth"
    target.with_name("w.pth.part").write_bytes(body)
    target.with_name("w.pth.part.tag").write_text('"1"')
    site.pages["/w.pth"] = Page(body)
    assert download(site.url("/w.pth"), target).read_bytes() == body


def test_length_unknown(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body, endless=True)
    assert download(site.url("/w.pth"), tmp_path / "w.pth").read_bytes() == body


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
def test_answers_that_are_no_weights(site, tmp_path, page, message):
    site.pages["/w.pth"] = page
    target = tmp_path / "w.pth"
    with pytest.raises(CheckpointError, match=message):
        download(site.url("/w.pth"), target)
    assert not target.exists()
    assert not target.with_name("w.pth.part").exists()


def test_hash_is_checked(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body)
    right = hashlib.sha256(body).hexdigest()
    with pytest.raises(DownloadError, match=f"{right[:16]}.*expected 01234567"):
        download(site.url("/w.pth"), tmp_path / "w.pth", sha256="01234567")
    assert not (tmp_path / "w.pth").exists()
    assert download(site.url("/w.pth"), tmp_path / "w.pth", sha256=right[:8].upper())


def test_silent_and_absent_hosts(tmp_path, site):
    site.server.shutdown()
    site.server.server_close()
    with pytest.raises(DownloadError, match="refused|URLError|Connection"):
        download(site.url("/w.pth"), tmp_path / "w.pth")


def test_full_disk_is_told_before_the_download(site, body, tmp_path, monkeypatch):
    site.pages["/w.pth"] = Page(body)
    usage = module.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="10 bytes free"):
        download(site.url("/w.pth"), tmp_path / "w.pth")
    assert site.times("/w.pth") == 1


def test_many_processes_fetch_once(site, body, tmp_path):
    site.pages["/w.pth"] = Page(body)
    target = tmp_path / "w.pth"
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(download(site.url("/w.pth"), target)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [target] * 6
    assert target.read_bytes() == body
    assert site.times("/w.pth") == 1
