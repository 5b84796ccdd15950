"""compare.py [--among] TRUTH GOT...: whether documents of read.py and read.mjs agree; prints each difference.

Two documents of one column each are compared whatever the columns are called, others name by name. Count, bytes
(sha256), nulls, least and greatest must be equal; so must sums, except that floating-point sums may differ by what
the order of adding explains. The type may be opaque (V) on one side, of the same size. What one side does not say
is not compared. GOT may have several documents, a line each; with --among they may have fewer columns than TRUTH.
Exit code 1 on a difference.
"""
import json
import math
import sys

EPSILON = 2.0 ** -52


def load(path: str) -> list:
    with sys.stdin if path == "-" else open(path) as f:
        return [json.loads(line) for line in f]


def same_type(truth: str, got: str) -> bool:
    """Equal, or one opaque; a time is its 64-bit integer."""
    def plain(name: str) -> str:
        return "<i8" if name[1] in "mM" else name
    if plain(truth) == plain(got):
        return True

    def size(name: str) -> int:
        return int(plain(name)[2:])
    return "V" in (truth[1], got[1]) and size(truth) == size(got)


def same_number(truth: str, got: str, slack: float = 0.0) -> bool:
    try:
        return int(truth) == int(got)
    except ValueError:
        a, b = float(truth), float(got)
    return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= slack


def sum_slack(truth: dict) -> float:
    """The most by which two sums of the same floats can differ: n * eps * sum of |x|."""
    if truth["dtype"][1] != "f" or "min" not in truth:
        return 0.0
    largest = max(abs(float(truth["min"])), abs(float(truth["max"])))
    return truth["count"] ** 2 * EPSILON * largest if math.isfinite(largest) else 0.0


def differences(truth: dict, got: dict) -> list:
    """One line for each thing that two columns do not agree on."""
    if "error" in truth or "error" in got:
        return ["%s: %s" % (who, c["error"]) for who, c in (("wanted", truth), ("got", got)) if "error" in c]
    checks = [(key, lambda a, b: a == b) for key in ("count", "nulls", "sha256", "shape")]
    checks += [("dtype", same_type), ("min", same_number), ("max", same_number)]
    checks += [("sum", lambda a, b: same_number(a, b, sum_slack(truth)))]
    return ["%s: wanted %s, got %s" % (key, truth[key], got[key]) for key, same in checks
            if key in truth and key in got and not same(truth[key], got[key])]


def sql_differences(truth: dict, sql: dict) -> list:
    """What the engine says that read the file, if there are numbers without NaN."""
    sql = {key: sql[key] for key in ("count", "sum", "min", "max") if sql.get(key) is not None}
    if truth.get("dtype", "|V1")[1] not in "iufb" or truth.get("sum") == "nan":
        sql = {key: sql[key] for key in ("count",) if key in sql}
    if "count" in sql:
        sql["count"] = int(sql["count"])
    return ["SQL " + line for line in differences(truth, sql)]


def pairs(truth: list, got: list, among: bool) -> list:
    if len(truth) == 1 and len(got) == 1:
        return [(truth[0], got[0])]
    wanted, found = ({c["name"]: c for c in columns} for columns in (truth, got))
    names = found if among else sorted(set(wanted) | set(found))
    return [(wanted.get(name), found.get(name)) for name in names]


def compare(truth: dict, got: dict, among: bool) -> list:
    if "error" in truth or "error" in got:
        return differences(truth, got)
    lines = []
    for want, have in pairs(truth["columns"], got["columns"], among):
        if want is None or have is None:
            lines.append("column %s is only in one" % (want or have)["name"])
            continue
        found = differences(want, have) + sql_differences(want, have.get("sql", {}))
        lines += ["column %s: %s" % (have["name"] or want["name"], line) for line in found]
    return lines


def main(args: list) -> int:
    among = args[:1] == ["--among"]
    args = args[among:]
    if len(args) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    (truth,), lines = load(args[0]), []
    for path in args[1:]:
        documents = load(path)
        if not documents:
            lines.append("%s: nothing in it" % path)
        for number, document in enumerate(documents, 1):
            where = "%s:%d" % (path, number) if len(documents) > 1 else path
            lines += ["%s: %s" % (where, line) for line in compare(truth, document, among)]
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
