/*
 * Faults that a build for the simulation has in it (SPILLFS_PLANT), to show that the simulation finds such faults. Each breaks one
 * invariant where the code keeps it; one of them, or none, is at work. Without SPILLFS_PLANT nothing of this is compiled.
 */
#ifndef SPILLFS_UTIL_PLANT_H
#define SPILLFS_UTIL_PLANT_H

#define PLANTS(X)                                                                       \
	X(PLANT_NO_POOL_SYNC, "COMMIT without a sync of the pool files")                \
	X(PLANT_NO_LAYER_SYNC, "COMMIT without a sync of the layers")                   \
	X(PLANT_NO_COLUMN_SYNC, "COMMIT without a sync of the column files")            \
	X(PLANT_NO_LOG_SYNC, "a commit that does not wait for its log")                 \
	X(PLANT_NO_LAYER_NAME, "COMMIT without a sync of the names of layers")           \
	X(PLANT_FSYNC_AT_ONCE, "fsync returns without waiting")                         \
	X(PLANT_EARLY_REUSE, "a freed region is used again before the commit")          \
	X(PLANT_EARLY_CUT, "a column's file is cut before the commit")                  \
	X(PLANT_EARLY_DROP, "a layer is deleted before the commit")                     \
	X(PLANT_EARLY_HEAD, "layers/HEAD names a layer that is not durable")            \
	X(PLANT_NO_TOMB, "a range that was cut or punched is forgotten")                \
	X(PLANT_NO_EXTENT, "the last extent is not written to meta.db")                 \
	X(PLANT_LOST_BLOCK, "a dirty block is lost when its flush fails")            \
	X(PLANT_NO_REMAP, "open arrays are not told what a compaction has moved")       \
	X(PLANT_STALE_CACHE, "a decoded block is found by its offset alone")            \
	X(PLANT_OLD_VIEW, "a view shows an older version of its array")                 \
	X(PLANT_NO_CHECKSUM, "a frame is decoded without its checksum")                 \
	X(PLANT_LOST_WAKE, "a waiter for a commit looks without the lock")              \
	X(PLANT_NO_GATE, "names change between stage and COMMIT")                       \
	X(PLANT_NO_SNAPSHOT_WAIT, "a snapshot is answered before it is durable")        \
	X(PLANT_NO_QUOTA, "a write passes a quota of stored bytes")                     \
	X(PLANT_QUOTA_LEAK, "a deleted file goes on counting in its quota")             \
	X(PLANT_QUOTA_KEPT, "what a write has taken of a quota is not given back")       \
	X(PLANT_SCRATCH_NAMED, "the file below scratch/ has a name on the disk")        \
	X(PLANT_SCRATCH_FSYNC, "fsync fails with the disk below scratch/")              \
	X(PLANT_SHELF_FULL, "a directory with durable files is declared scratch")       \
	X(PLANT_SPILL_SLOT, "two pieces of scratch/ have one place on the disk")         \
	X(PLANT_RECORD_LEAD, "records are taken to begin with the block")               \
	X(PLANT_NO_UNZIGZAG, "a step of a filter is not undone")

#ifdef SPILLFS_PLANT
enum plant {
	PLANT_NONE,
#define PLANT_ID(id, text) id,
	PLANTS(PLANT_ID)
#undef PLANT_ID
};
extern enum plant plant; /* the simulation's */
#define PLANTED(id) (plant == (id))
#else
#define PLANTED(id) 0
#endif

#endif
