"""The course's guests: a few bytes of 16-bit machine code each, loaded at :data:`ORIGIN`, with their listings.

They talk to their monitor through I/O ports alone; what the ports mean is said here, once.
"""

from __future__ import annotations

ORIGIN = 0x1000
"""Physical address at which a guest is loaded and starts."""

SERIAL = 0x3F8
"""Port of the first serial line: a byte written appears on the console."""
READY = 0x3F0
"""A byte written here says that the guest's init is over."""
ARGUMENT, ANSWER = 0x20, 0x22
"""A word read is the next request, a word written is its answer."""
ENTROPY = 0x24
"""A word read is random, from the host."""
GENERATION = 0x26
"""A word read changes with every restore from a snapshot, as a VM generation identifier does."""
SECTOR, DATA = 0x40, 0x42
"""A word written selects a sector of 512 bytes of the drive; words read are its contents."""

PAGE = 4096
PAGES = 128
"""Pages that the services write to, from address 0x20000."""

HELLO = bytes.fromhex("ba f803  be 0f10  ac  84c0  7403  ee  ebf8  f4") + b"hello\n\0"
"""mov dx,0x3f8; mov si,0x100f; next: lodsb; test al,al; jz end; out dx,al; jmp next; end: hlt; "hello\\n"."""

_INIT = bytes.fromhex(
    "b80020"  # mov ax,0x2000         16 pages from 0x20000
    "8ec0"  # page: mov es,ax
    "31ff"  # xor di,di
    "b90008"  # mov cx,2048            words of a page
    "69db5562"  # fill: imul bx,bx,25173
    "81c31936"  # add bx,13849
    "26891d"  # mov es:[di],bx
    "83c702"  # add di,2
    "e2f0"  # loop fill
    "050001"  # add ax,0x100
    "3d0030"  # cmp ax,0x3000
    "75e1"  # jne page
    "e524"  # in ax,0x24              the seed
    "a3000f"  # mov [0x0f00],ax
)
_READY = bytes.fromhex("b07b baf003 ee")  # mov al,123; mov dx,0x3f0; out dx,al
_TAKE = bytes.fromhex("e520 89c1")  # request: in ax,0x20; mov cx,ax
_WRITE = bytes.fromhex(
    "8b1e000f"  # mov bx,[0x0f00]
    "e319"  # jcxz answer
    "69db5562"  # write: imul bx,bx,25173
    "81c31936"  # add bx,13849
    "89d8"  # mov ax,bx
    "25007f"  # and ax,0x7f00           one of 128 pages
    "050020"  # add ax,0x2000
    "8ec0"  # mov es,ax
    "26891e0000"  # mov es:[0],bx
    "e2e7"  # loop write
    "69db5562"  # answer: imul bx,bx,25173
    "81c31936"  # add bx,13849
    "891e000f"  # mov [0x0f00],bx
    "89d8"  # mov ax,bx
    "e722"  # out 0x22,ax
)
_KEEP = bytes.fromhex("e526 a3020f")  # in ax,0x26; mov [0x0f02],ax
_RENEW = bytes.fromhex(
    "e526"  # in ax,0x26              the generation
    "3906020f"  # cmp [0x0f02],ax
    "7408"  # je same
    "a3020f"  # mov [0x0f02],ax
    "e524"  # in ax,0x24              a new seed
    "a3000f"  # mov [0x0f00],ax
)

SERVICE = _INIT + _READY + _TAKE + _WRITE + bytes.fromhex("ebcb")  # jmp request
"""Fills 16 pages, draws a seed, says that it is ready; then answers each request with its next pseudo-random word,
after writing to as many pages, drawn with the same generator, as the request says."""

RENEWING = _INIT + _KEEP + _READY + _TAKE + _RENEW + _WRITE + bytes.fromhex("ebbb")  # jmp request
"""The same, but it draws a new seed when the generation has changed: it is unique again after a restore."""

WATCHER = (
    bytes.fromhex(
        "e526"  # in ax,0x26
        "89c3"  # mov bx,ax
        "be1f10"  # mov si,ready
        "baf803"  # say: mov dx,0x3f8
        "ac"  # next: lodsb
        "84c0"  # test al,al
        "7403"  # jz poll
        "ee"  # out dx,al
        "ebf8"  # jmp next
        "e526"  # poll: in ax,0x26
        "39c3"  # cmp bx,ax
        "74fa"  # je poll
        "89c3"  # mov bx,ax
        "be2610"  # mov si,restored
        "ebe8"  # jmp say
    )
    + b"ready\n\0restored\n\0"
)
"""Says "ready", and "restored" each time it finds itself in another generation."""

READER = bytes.fromhex(
    "31db"  # xor bx,bx
    "b94000"  # mov cx,64
    "89d8"  # next: mov ax,bx
    "e740"  # out 0x40,ax              select a sector
    "51"  # push cx
    "b90001"  # mov cx,256
    "e542"  # read: in ax,0x42
    "01c5"  # add bp,ax
    "e2fa"  # loop read
    "59"  # pop cx
    "43"  # inc bx
    "e2ee"  # loop next
    "89e8"  # mov ax,bp
    "e722"  # out 0x22,ax              the sum of all words
    "f4"  # hlt
)
"""Reads the first 64 sectors of the drive and answers the sum of their words."""
