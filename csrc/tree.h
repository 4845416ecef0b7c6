/* tree.h - signals for a process and for what it has started.
 *
 * The *tree* of a process: itself and those of its descendants that have not left it. A descendant has left when it is
 * in a process group that is neither the one that the root is in nor `home`, the one that the root was born in; so have
 * all that it starts there. An orphan has left too: its parent has ended, and the kernel does not tell whose child that was.
 * What has been found in the tree leaves it no more (see below).
 * A resource tracker of multiprocessing's is left alone: it ends by itself when the others have, and removes the files in
 * /dev/shm that they leave.
 *
 * How it works: a helper process stops the root, looks for its children in /proc, stops those in the tree, looks for
 * their children, and so on, until a walk finds nothing new, and all of it stopped. A process that has stopped forks no
 * more, so by then no descendant can be missing. Then all get the signal: the root after its descendants, but
 * before those whose parent is in another group (see mark_links() in tree.c); as the last, if it is in a group of its own.
 *
 *   the helper                            why it is a process of its own
 *   -----------------------------------   ----------------------------------------------------------------------
 *   blocks all signals, and is in a       if the caller is killed meanwhile, alone or with its group, nothing is left
 *     process group of its own              stopped for ever
 *   shares the memory of the caller       no copy: it starts in the same time whatever the caller's size
 *   has its own table of descriptors,     a caller at its limit of descriptors can still be served
 *     and closes all but the pidfd
 *   is not in the tree                    so a process can have its own tree killed
 *
 * A process that has been found in the tree stays in it until it has got the signal, even if its parent ends or its group
 * changes meanwhile: else it could stay stopped for ever. Parents do end: the hangup of a terminal kills a process that has
 * been sent SIGSTOP but not had a processor since, for SIGHUP is delivered before SIGSTOP, while its child has stopped.
 *
 * A number of a process is never trusted alone: it goes with the time when that process started, and signals go through
 * a pidfd that was open when the two were compared. Nothing here allocates, takes a lock or uses stdio.
 *
 * Not guaranteed: a process that does not stop (it sleeps uninterruptibly, as in vfork()) is waited for RP_TREE_STOP_NS;
 * what it forks in the instant before the signal may escape. Processes of other users get no signal, nor do those beyond
 * RP_TREE_MOST. Where /proc is missing, or of another pid namespace, the root alone gets the signal.
 */
#ifndef RP_TREE_H
#define RP_TREE_H

#include "base.h"

#define RP_TREE_MOST 65536u        /* arbitrary */
#define RP_TREE_STOP_NS 500000000u /* arbitrary: after the last that has stopped; longer than one should wait for a processor */

/* Sends signum to the tree of a process, and continues it unless it is SIGKILL.
 *
 * pidfd, root: the process; it may be the caller's own, and then SIGKILL does not return.
 * home: the process group that it was born in.
 *
 * 0 or a negative errno: -ESRCH if it has ended and been waited for. Returns when the signals have been sent. */
int rp_tree_signal(int pidfd, int root, int home, int signum);

#endif
