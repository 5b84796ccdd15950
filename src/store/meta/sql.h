/*
 * The SQL of meta.db: schema, and the prepared statements with their parameters in order.
 */
#ifndef SPILLFS_STORE_META_SQL_H
#define SPILLFS_STORE_META_SQL_H

#define SQL_SCHEMA \
	"CREATE TABLE IF NOT EXISTS facts(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;" \
	"CREATE TABLE IF NOT EXISTS inodes(ino INTEGER PRIMARY KEY, kind INTEGER NOT NULL, mode INTEGER NOT NULL," \
	" nlink INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL," \
	" size INTEGER NOT NULL, stored INTEGER NOT NULL, file INTEGER NOT NULL, parent INTEGER NOT NULL," \
	" atime INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, btime INTEGER NOT NULL);" \
	"CREATE INDEX IF NOT EXISTS inodes_file ON inodes(file) WHERE file > 0;" \
	"CREATE INDEX IF NOT EXISTS inodes_orphan ON inodes(nlink) WHERE nlink = 0;" \
	"CREATE TABLE IF NOT EXISTS names(cookie INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL," \
	" ino INTEGER NOT NULL);" \
	"CREATE UNIQUE INDEX IF NOT EXISTS names_name ON names(parent, name);" \
	"CREATE INDEX IF NOT EXISTS names_cookie ON names(parent, cookie);" \
	"CREATE INDEX IF NOT EXISTS names_ino ON names(ino);" \
	"CREATE TABLE IF NOT EXISTS blobs(ino INTEGER NOT NULL, what INTEGER NOT NULL, value BLOB NOT NULL," \
	" PRIMARY KEY(ino, what));" \
	"CREATE TABLE IF NOT EXISTS xattrs(ino INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL," \
	" PRIMARY KEY(ino, name));" \
	"CREATE TABLE IF NOT EXISTS extents(ino INTEGER NOT NULL, off INTEGER NOT NULL, len INTEGER NOT NULL," \
	" file INTEGER NOT NULL, phys INTEGER NOT NULL, PRIMARY KEY(ino, off)) WITHOUT ROWID;" \
	"CREATE TABLE IF NOT EXISTS layers(number INTEGER PRIMARY KEY, state INTEGER NOT NULL, bytes INTEGER NOT NULL," \
	" segment INTEGER NOT NULL, live INTEGER NOT NULL, raw INTEGER NOT NULL, stored INTEGER NOT NULL," \
	" arrays INTEGER NOT NULL, commit_number INTEGER NOT NULL, time INTEGER NOT NULL, chain BLOB NOT NULL," \
	" refs BLOB NOT NULL);" \
	"CREATE TABLE IF NOT EXISTS snapshots(name BLOB PRIMARY KEY, layer INTEGER NOT NULL, time INTEGER NOT NULL)" \
	" WITHOUT ROWID;"

#define SQL_INODE_COLUMNS \
	"ino, kind, mode, nlink, uid, gid, rdev, size, stored, file, parent, atime, mtime, ctime, btime"

#define SQL_LAYER_COLUMNS \
	"number, state, bytes, segment, live, raw, stored, arrays, commit_number, time, chain, refs"

#define SQL_ENTRY \
	"SELECT n.cookie, n.name, n.ino, i.kind, i.mode, i.nlink, x.value FROM names n JOIN inodes i ON i.ino=n.ino" \
	" LEFT JOIN xattrs x ON x.ino=n.ino AND x.name=?1 WHERE n.parent=?2"

#define SQL_STATEMENTS(X) \
	X(SQL_BEGIN, "BEGIN IMMEDIATE") \
	X(SQL_COMMIT, "COMMIT") \
	X(SQL_PAGES, "PRAGMA page_count") \
	X(SQL_PAGES_FREE, "PRAGMA freelist_count") \
	X(SQL_FACT_GET, "SELECT value FROM facts WHERE key=?") \
	X(SQL_FACT_SET, "REPLACE INTO facts(key, value) VALUES(?,?)") \
	X(SQL_INODE_LOAD, "SELECT " SQL_INODE_COLUMNS " FROM inodes WHERE ino=?") \
	X(SQL_INODE_PUT, "REPLACE INTO inodes(" SQL_INODE_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)") \
	X(SQL_INODE_RELINK, "UPDATE inodes SET nlink=?, parent=?, ctime=? WHERE ino=?") \
	X(SQL_INODE_DELETE, "DELETE FROM inodes WHERE ino=?") \
	X(SQL_INODE_ORPHANS, "SELECT " SQL_INODE_COLUMNS " FROM inodes WHERE nlink=0 AND ino>? ORDER BY ino") \
	X(SQL_INODE_KIND, "SELECT " SQL_INODE_COLUMNS " FROM inodes WHERE kind=? AND nlink>0 AND ino>? ORDER BY ino") \
	X(SQL_INODE_CUT, "SELECT " SQL_INODE_COLUMNS " FROM inodes i WHERE nlink>0 AND ino>? AND" \
	  " EXISTS(SELECT 1 FROM extents e WHERE e.ino=i.ino AND e.off>=i.size) ORDER BY ino") \
	X(SQL_INODE_EXISTS, "SELECT 1 FROM inodes WHERE ino=?") \
	X(SQL_INODE_COUNT, "SELECT count(*) FROM inodes") \
	X(SQL_INODE_MAX, "SELECT max(ino) FROM inodes") \
	X(SQL_COLUMN_EXISTS, "SELECT 1 FROM inodes WHERE file=? AND file > 0") \
	X(SQL_NAME_FIND, "SELECT ino FROM names WHERE parent=? AND name=?") \
	X(SQL_NAME_INSERT, "INSERT INTO names(parent, name, ino) VALUES(?,?,?)") \
	X(SQL_NAME_POINT, "UPDATE names SET ino=? WHERE parent=? AND name=?") \
	X(SQL_NAME_MOVE, "UPDATE names SET name=? WHERE parent=? AND name=?") \
	X(SQL_NAME_LAST, "SELECT coalesce(max(cookie), 0) FROM names") \
	X(SQL_NAME_DELETE, "DELETE FROM names WHERE parent=? AND name=?") \
	X(SQL_NAME_ANY, "SELECT 1 FROM names WHERE parent=? LIMIT 1") \
	X(SQL_NAME_WALK, "SELECT cookie, name, ino FROM names WHERE parent=? AND cookie>? ORDER BY cookie") \
	X(SQL_ENTRY_WALK, SQL_ENTRY " AND n.cookie>?3 ORDER BY n.cookie") \
	X(SQL_ENTRY_STEM, SQL_ENTRY " AND n.name=?3 UNION ALL " SQL_ENTRY " AND n.name>?4 AND n.name<?5") \
	X(SQL_NAME_OF, "SELECT parent, name FROM names WHERE ino=? ORDER BY cookie LIMIT 1") \
	X(SQL_TREE_WALK, "WITH RECURSIVE t(ino) AS (VALUES(?1) UNION SELECT n.ino FROM t JOIN names n ON n.parent=t.ino" \
	  " JOIN inodes d ON d.ino=n.ino WHERE (d.mode & 61440)<>16384 OR NOT EXISTS(SELECT 1 FROM xattrs x WHERE x.ino=n.ino AND x.name IN(?2,?3)))" \
	  " SELECT i.ino, i.mode, i.nlink, i.size, i.stored, b.value FROM t JOIN inodes i ON i.ino=t.ino" \
	  " LEFT JOIN blobs b ON b.ino=i.ino AND b.what=4") \
	X(SQL_TREE_SUM, "SELECT coalesce(sum(size), 0), coalesce(sum(stored), 0) FROM inodes WHERE (mode & 61440)=32768") \
	X(SQL_XATTR_OWNERS, "SELECT DISTINCT ino FROM xattrs WHERE name IN(?,?) AND ino>? ORDER BY ino LIMIT 1") \
	X(SQL_BLOB_GET, "SELECT value FROM blobs WHERE ino=? AND what=?") \
	X(SQL_PROMISED_ALL, "SELECT value FROM blobs WHERE what=4") \
	X(SQL_BLOB_SET, "REPLACE INTO blobs(ino, what, value) VALUES(?,?,?)") \
	X(SQL_BLOB_DELETE, "DELETE FROM blobs WHERE ino=? AND what=?") \
	X(SQL_RUNS_LOAD, "SELECT value FROM blobs WHERE ino=? AND (what=3 OR what>16) ORDER BY what") \
	X(SQL_RUNS_CUT, "DELETE FROM blobs WHERE ino=? AND (what=3 OR what>16) AND what>=?") \
	X(SQL_BLOBS_DELETE, "DELETE FROM blobs WHERE ino=?") \
	X(SQL_XATTR_GET, "SELECT value FROM xattrs WHERE ino=? AND name=?") \
	X(SQL_XATTR_SET, "REPLACE INTO xattrs(ino, name, value) VALUES(?,?,?)") \
	X(SQL_XATTR_REMOVE, "DELETE FROM xattrs WHERE ino=? AND name=?") \
	X(SQL_XATTRS_DELETE, "DELETE FROM xattrs WHERE ino=?") \
	X(SQL_XATTR_WALK, "SELECT name, value FROM xattrs WHERE ino=? ORDER BY name") \
	X(SQL_EXTENTS_LOAD, "SELECT off, len, file, phys FROM extents WHERE ino=? ORDER BY off") \
	X(SQL_EXTENTS_CUT, "DELETE FROM extents WHERE ino=? AND off>=? AND off<?") \
	X(SQL_EXTENT_INSERT, "INSERT INTO extents(ino, off, len, file, phys) VALUES(?,?,?,?,?)") \
	X(SQL_EXTENTS_ALL, "SELECT off, len, file, phys FROM extents") \
	X(SQL_LAYER_PUT, "REPLACE INTO layers(" SQL_LAYER_COLUMNS ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?)") \
	X(SQL_LAYER_DELETE, "DELETE FROM layers WHERE number=?") \
	X(SQL_LAYER_WALK, "SELECT " SQL_LAYER_COLUMNS " FROM layers ORDER BY number") \
	X(SQL_SNAPSHOT_PUT, "REPLACE INTO snapshots(name, layer, time) VALUES(?,?,?)") \
	X(SQL_SNAPSHOT_DELETE, "DELETE FROM snapshots WHERE name=?") \
	X(SQL_SNAPSHOT_WALK, "SELECT name, layer, time FROM snapshots ORDER BY name")

enum sql {
#define X(id, text) id,
	SQL_STATEMENTS(X)
#undef X
	SQL_COUNT
};

#endif
