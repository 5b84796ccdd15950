/*
 * Counters shown in .spillfs/stats. One process-wide table of relaxed atomics: counting never takes a
 * lock. Monotonic counters and gauges alike are 64-bit; those whose metric is in seconds count nanoseconds.
 */
#ifndef SPILLFS_UTIL_STATS_H
#define SPILLFS_UTIL_STATS_H

#include <stdatomic.h>
#include <stdint.h>

/* How bytes reach the store's file system: the rows of one kind of its files, in the order of enum stats_way. */
#define STATS_BACKING_READ(X, KIND, kind, help) \
	X(STAT_BACKING_READ_##KIND##_BUFFERED, "spillfs_backing_read_bytes", "kind=\"" kind "\",way=\"buffered\"", "counter", help) \
	X(STAT_BACKING_READ_##KIND##_DIRECT, "spillfs_backing_read_bytes", "kind=\"" kind "\",way=\"direct\"", "counter", "")
#define STATS_BACKING_WRITE(X, KIND, kind, help) \
	X(STAT_BACKING_WRITE_##KIND##_BUFFERED, "spillfs_backing_write_bytes", "kind=\"" kind "\",way=\"buffered\"", "counter", help) \
	X(STAT_BACKING_WRITE_##KIND##_DIRECT, "spillfs_backing_write_bytes", "kind=\"" kind "\",way=\"direct\"", "counter", "") \
	X(STAT_BACKING_WRITE_##KIND##_UNCACHED, "spillfs_backing_write_bytes", "kind=\"" kind "\",way=\"uncached\"", "counter", "")

/* X(enumerator, metric name, labels, type, help); rows of one metric stand together, and behind the last row those of its metric that
 * each store has for itself. Kinds of the store's files are in the order of
 * IO_OF_... (io/io.h). */
#define STATS_TABLE(X) \
	X(STAT_READ_OPS_BUCKET, "spillfs_read_ops", "kind=\"bucket\"", "counter", "Read requests served") \
	X(STAT_READ_OPS_COLUMN, "spillfs_read_ops", "kind=\"column\"", "counter", "") \
	X(STAT_READ_OPS_LAYERED, "spillfs_read_ops", "kind=\"layered\"", "counter", "") \
	X(STAT_READ_OPS_VIEW, "spillfs_read_ops", "kind=\"view\"", "counter", "") \
	X(STAT_READ_BYTES_BUCKET, "spillfs_read_bytes", "kind=\"bucket\"", "counter", "Bytes read") \
	X(STAT_READ_BYTES_COLUMN, "spillfs_read_bytes", "kind=\"column\"", "counter", "") \
	X(STAT_READ_BYTES_LAYERED, "spillfs_read_bytes", "kind=\"layered\"", "counter", "") \
	X(STAT_READ_BYTES_VIEW, "spillfs_read_bytes", "kind=\"view\"", "counter", "") \
	X(STAT_WRITE_OPS_BUCKET, "spillfs_write_ops", "kind=\"bucket\"", "counter", "Write requests served") \
	X(STAT_WRITE_OPS_COLUMN, "spillfs_write_ops", "kind=\"column\"", "counter", "") \
	X(STAT_WRITE_OPS_LAYERED, "spillfs_write_ops", "kind=\"layered\"", "counter", "") \
	X(STAT_WRITE_BYTES_BUCKET, "spillfs_write_bytes", "kind=\"bucket\"", "counter", "Bytes written") \
	X(STAT_WRITE_BYTES_COLUMN, "spillfs_write_bytes", "kind=\"column\"", "counter", "") \
	X(STAT_WRITE_BYTES_LAYERED, "spillfs_write_bytes", "kind=\"layered\"", "counter", "") \
	X(STAT_COLUMN_OPENS_CACHED, "spillfs_column_opens", "mode=\"cached\"", "counter", "Opens of columns; what is read and written by passthrough is counted nowhere else") \
	X(STAT_COLUMN_OPENS_DIRECT, "spillfs_column_opens", "mode=\"direct\"", "counter", "") \
	X(STAT_COLUMN_OPENS_PASSTHROUGH, "spillfs_column_opens", "mode=\"passthrough\"", "counter", "") \
	X(STAT_CACHE_HITS, "spillfs_cache_hits", "", "counter", "Block reads served by the decoded-block cache") \
	X(STAT_CACHE_MISSES, "spillfs_cache_misses", "", "counter", "Block reads that decoded a frame") \
	X(STAT_CACHE_PREFETCHED, "spillfs_cache_prefetched", "", "counter", "Blocks decoded ahead of a reader") \
	X(STAT_CACHE_BYTES, "spillfs_cache_bytes", "", "gauge", "Bytes of decoded blocks in memory") \
	X(STAT_ENCODE_RAW_BYTES, "spillfs_encode_raw_bytes", "", "counter", "Bytes compressed") \
	X(STAT_ENCODE_STORED_BYTES, "spillfs_encode_stored_bytes", "", "counter", "Bytes that compression produced") \
	X(STAT_FRAME_READ_BYTES, "spillfs_frame_read_bytes", "", "counter", "Stored bytes of frames read from layers") \
	X(STAT_DIRTY_BYTES, "spillfs_dirty_bytes", "", "gauge", "Bytes of blocks not yet in a layer") \
	X(STAT_LEASES_IN_USE, "spillfs_leases_in_use", "", "gauge", "Aligned direct-I/O buffers lent out") \
	X(STAT_LEASE_WAITS, "spillfs_lease_waits", "", "counter", "Borrowers that had to wait for a buffer") \
	X(STAT_LEASE_WAIT_NS, "spillfs_lease_wait_seconds", "", "counter", "Time that they waited") \
	X(STAT_LEASE_FALLBACKS_LENT, "spillfs_lease_fallbacks", "reason=\"lent\"", "counter", "Transfers that were to be direct and went buffered") \
	X(STAT_LEASE_FALLBACKS_MEMORY, "spillfs_lease_fallbacks", "reason=\"memory\"", "counter", "") \
	X(STAT_LEASE_FALLBACKS_DESCRIPTORS, "spillfs_lease_fallbacks", "reason=\"descriptors\"", "counter", "") \
	X(STAT_LEASE_FALLBACKS_REFUSED, "spillfs_lease_fallbacks", "reason=\"refused\"", "counter", "") \
	X(STAT_LEASE_FALLBACKS_UNSUPPORTED, "spillfs_lease_fallbacks", "reason=\"unsupported\"", "counter", "") \
	X(STAT_LEASE_FALLBACKS_CONFIGURED, "spillfs_lease_fallbacks", "reason=\"configured\"", "counter", "") \
	STATS_BACKING_READ(X, OTHER, "other", "Bytes read from the store's files") \
	STATS_BACKING_READ(X, BUCKET, "bucket", "") \
	STATS_BACKING_READ(X, COLUMN, "column", "") \
	STATS_BACKING_READ(X, LAYERED, "layered", "") \
	STATS_BACKING_READ(X, SPILL, "spill", "") \
	STATS_BACKING_WRITE(X, OTHER, "other", "Bytes written to the store's files") \
	STATS_BACKING_WRITE(X, BUCKET, "bucket", "") \
	STATS_BACKING_WRITE(X, COLUMN, "column", "") \
	STATS_BACKING_WRITE(X, LAYERED, "layered", "") \
	STATS_BACKING_WRITE(X, SPILL, "spill", "") \
	X(STAT_SPILL_MEMORY_BYTES, "spillfs_spill_memory_bytes", "", "gauge", "Memory of files that nothing makes durable") \
	X(STAT_SPILL_DISK_BYTES, "spillfs_spill_disk_bytes", "", "gauge", "Their bytes that are on the disk, as they are stored") \
	X(STAT_SPILL_COLD_RAW_BYTES, "spillfs_spill_cold_raw_bytes", "", "counter", "Bytes that were compressed on their way there, or where they lay") \
	X(STAT_SPILL_COLD_STORED_BYTES, "spillfs_spill_cold_stored_bytes", "", "counter", "Bytes that these became") \
	X(STAT_POOL_CLAIMED_BYTES, "spillfs_pool_claimed_bytes", "", "gauge", "Bytes of bucket regions in use") \
	X(STAT_POOL_FREE_BYTES, "spillfs_pool_free_bytes", "", "gauge", "Bytes of freed regions awaiting reuse") \
	X(STAT_POOL_PUNCHED_BYTES, "spillfs_pool_punched_bytes", "", "counter", "Bytes given back to the store's file system") \
	X(STAT_COMMITS, "spillfs_commits", "", "counter", "Metadata commits") \
	X(STAT_COMMIT_FAILURES, "spillfs_commit_failures", "", "counter", "Commits that failed") \
	X(STAT_LEAVING_WAITS, "spillfs_leaving_waits", "", "counter", "Operations that found no space and waited for deleted files that the kernel was about to let go of") \
	X(STAT_META_STATEMENTS, "spillfs_meta_statements", "", "counter", "Statements run on meta.db") \
	X(STAT_LAYERS_SEALED, "spillfs_layers_sealed", "", "counter", "Layers sealed since mount") \
	X(STAT_THREADS, "spillfs_threads", "", "gauge", "Threads, besides those that libfuse starts") \
	X(STAT_CORRUPTIONS, "spillfs_corruptions", "", "counter", "Stored objects that failed verification") \
	X(STAT_MEMORY_SUMS_BYTES, "spillfs_memory_bytes", "holds=\"sums\"", "gauge", "Bytes of memory, by what they hold: sums of encrypted sectors, which count for -o spill, and what -o cache bounds")

enum stats_id {
#define X(id, name, labels, type, help) id,
	STATS_TABLE(X)
#undef X
	STATS_COUNT
};

/* Nothing is read uncached. */
enum stats_way { STATS_BUFFERED, STATS_DIRECT, STATS_UNCACHED };

enum {
	STATS_READ_WAYS = STAT_BACKING_READ_BUCKET_BUFFERED - STAT_BACKING_READ_OTHER_BUFFERED,
	STATS_WRITE_WAYS = STAT_BACKING_WRITE_BUCKET_BUFFERED - STAT_BACKING_WRITE_OTHER_BUFFERED,
	STATS_NKINDS = (STAT_BACKING_WRITE_OTHER_BUFFERED - STAT_BACKING_READ_OTHER_BUFFERED) / STATS_READ_WAYS,
};

/* kind: the position among the kinds. */
static inline enum stats_id stats_backing_read(unsigned kind, enum stats_way way)
{
	return (enum stats_id)(STAT_BACKING_READ_OTHER_BUFFERED + STATS_READ_WAYS * kind + way);
}

static inline enum stats_id stats_backing_write(unsigned kind, enum stats_way way)
{
	return (enum stats_id)(STAT_BACKING_WRITE_OTHER_BUFFERED + STATS_WRITE_WAYS * kind + way);
}

extern _Atomic uint64_t stats_table[STATS_COUNT];

static inline void stats_add(enum stats_id id, uint64_t n)
{
	atomic_fetch_add_explicit(&stats_table[id], n, memory_order_relaxed);
}

static inline void stats_sub(enum stats_id id, uint64_t n)
{
	atomic_fetch_sub_explicit(&stats_table[id], n, memory_order_relaxed);
}

static inline uint64_t stats_read(enum stats_id id)
{
	return atomic_load_explicit(&stats_table[id], memory_order_relaxed);
}

#endif
