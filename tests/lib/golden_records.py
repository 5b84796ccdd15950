"""The arrays of tests/golden/records: golden_records.py DIRECTORY writes them there, and prints lines of name, block size (0: as it comes)
and type. The store was made with these, one behind the other, each synced.
"""
import struct
import sys


def chance(i):
    """Not random at all, but it looks so."""
    x = i * 2654435761 & 0xffffffff
    x = (x ^ x >> 15) * 2246822519 & 0xffffffff
    return x ^ x >> 13


def trades(n):
    price, at, count = 10000, 1700000000000000000, 0
    for i in range(n):
        price += chance(i) % 19 - 9
        at += chance(i + 7) % 1000000
        count += chance(i + 77) % 50
        yield struct.pack('<dqiB', price / 100 if i % 700 else -0.0, at, count, chance(i + 777) % 7)


def mixed(n):
    for i in range(n):
        for k in range(20):
            yield struct.pack('<Bd', (i + k) % 4, (i * k + chance(i) % 9) / 100)


def wide(n):
    for i in range(n):
        for k in range(100):
            yield struct.pack('<H', i * k & 0xffff)


TRADE = 'price:f64,at:i64,count:i32,id:u8'
ARRAYS = {
    'trades': (0, TRADE, lambda: b''.join(trades(6500)) + b'not whole'),
    'lead': (69632, TRADE, lambda: b''.join(trades(7000))),
    'small': (4096, TRADE, lambda: b''.join(trades(1500))),
    'mixed': (0, ','.join('a%d:u8,b%d:f64' % (k, k) for k in range(20)), lambda: b''.join(mixed(900))),
    'wide': (0, ','.join('f%d:u16' % k for k in range(100)), lambda: b''.join(wide(700))),
}

for name, (size, dtype, make) in ARRAYS.items():
    with open(sys.argv[1] + '/' + name, 'wb') as f:
        f.write(make())
    print(name, size, dtype)
