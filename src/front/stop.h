/*
 * Ending the daemon by signals. The first SIGTERM, SIGINT or SIGHUP detaches the mount and makes
 * everything durable; files that are open stay usable, and the loop ends with the last of them. A
 * second one ends the loop at once. SIGCHLD tells of a warden that has ended.
 */
#ifndef SPILLFS_FRONT_STOP_H
#define SPILLFS_FRONT_STOP_H

struct front;
struct mount;
struct stop;
struct tree;
struct warden;

/* Blocks the signals in the caller (and so in all threads started later) and starts the thread that receives them. Until
 * stop_arm they end the process as usual: nothing is lost by that. The caller is the thread that will run the loop. From
 * stop_arm to stop_free only the signal thread calls warden_look. */
int stop_new(struct warden *w, struct stop **out);
void stop_arm(struct stop *s, struct tree *tree, struct front *f, struct mount *m);
/* The loop has ended: signals are ignored from here on, the end must not be cut short. */
void stop_free(struct stop *s);

#endif
