/*
 * The limits that the daemon sets itself once it serves: it may do less than its caller. A fault that an enemy's store or client finds in it is worth
 * that much less.
 */
#ifndef SPILLFS_FRONT_CONFINE_H
#define SPILLFS_FRONT_CONFINE_H

/* Gives up the capabilities that nothing here needs, for all threads that are started afterwards: call it while there is one. A
 * daemon that unmounts without fusermount3 also never gains privilege by a program again. */
void confine_privileges(void);

/* Gives up all capabilities, and to gain any: for a process that only watches. */
void confine_wholly(void);

/* Has the kernel refuse, with EPERM, system calls that a serving daemon never makes, to all threads. Does nothing where fusermount3
 * has to run for unmounting. Call it when the mount serves. */
void confine_calls(void);

#endif
