"""What the kernel said, as the supervisor and the sampler read it."""

import time

import pytest

from remote.payload.telemetry import kernel

SAID = """\
2026-11-21T08:43:14,371021+00:00 NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
2026-11-21T08:43:15,000000+00:00 Out of memory: Killed process 4242 (python3) total-vm:9G
                                 a line of detail
2026-11-21T08:43:16,500000+00:00 usb 1-1: new device
"""
FIRST = 1795250594.371021


@pytest.fixture
def said(tmp_path, monkeypatch):
    path = tmp_path / "kernel.log"
    path.write_text(SAID)
    monkeypatch.setenv(kernel.STAND_IN, str(path))
    return path


def test_lines_have_their_time_and_begin_where_asked(said):
    assert [round(moment - FIRST, 3) for moment, _ in kernel.lines(0)] == [0.0, 0.629, 2.129]
    assert [text for _, text in kernel.lines(FIRST + 1)] == ["usb 1-1: new device"]
    said.unlink()
    assert kernel.lines(0) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            (
                "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen"
                " off the bus."
            ),
            kernel.XID,
        ),
        ("NVRM: Xid (0000:01:00): 13, Graphics SM Warp Exception on (GPC 0, TPC 0)", kernel.XID),
        ("NVRM: GPU at PCI:0000:3b:00 has fallen off the bus.", kernel.HARDWARE),
        ("mce: [Hardware Error]: Machine check events logged", kernel.HARDWARE),
        (
            "Memory cgroup out of memory: Killed process 811 (python) total-vm:1kB, anon-rss:1kB",
            kernel.OUT_OF_MEMORY,
        ),
        ("python3 invoked oom-killer: gfp_mask=0x140dca", kernel.OUT_OF_MEMORY),
        (
            (
                "EXT4-fs error (device nvme0n1p1): ext4_find_entry:1612: inode #2: comm ls: reading"
                " directory lblock 0"
            ),
            kernel.DISK,
        ),
        ("blk_update_request: I/O error, dev nvme1n1, sector 0", kernel.DISK),
        ("INFO: task python3:3211 blocked for more than 120 seconds.", kernel.HUNG),
        ("python3[77]: segfault at 0 ip 00007f rsp 00007f error 4 in libcuda.so", kernel.CRASH),
        ("EXT4-fs (vda): mounted filesystem r/w without journal. Quota mode: none.", ""),
        ("tokio-rt-worker (69): drop_caches: 3", ""),
    ],
)
def test_what_kind_of_line_it_is(text, kind):
    assert kernel.classify(text) == kind


def test_only_some_xids_blame_the_card():
    line = "NVRM: Xid (PCI:0000:3b:00): {}, pid=1, name=python, words"
    assert [
        number
        for number in (13, 31, 45, 48, 74, 79, 94, 119)
        if kernel.blames_gpu(line.format(number))
    ] == [48, 74, 79, 94, 119]
    assert (
        kernel.xid(line.format(119)) == 119
        and kernel.xid("usb") is None
        and not kernel.blames_gpu("usb")
    )


def test_this_machines_own_kernel_is_heard_or_silent(monkeypatch):
    monkeypatch.delenv(kernel.STAND_IN, raising=False)
    moments = [moment for moment, _ in kernel.lines(0)]
    assert moments == sorted(moments) and all(0 < moment <= time.time() + 60 for moment in moments)
