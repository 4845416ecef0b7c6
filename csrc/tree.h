/* tree.h - signals for a process and for what it has started.
 *
 * The *tree* of a process: itself and those of its descendants that have not left it. A descendant has left when it is
 * in a process group that is neither the one that the root is in nor `home`, the one that the root was born in; so have
 * all that it starts there. An orphan has left too: its parent has ended, and the kernel does not tell whose child that was.
 * A resource tracker of multiprocessing's is left alone: it ends by itself when the others have, and removes the files in
 * /dev/shm that they leave.
 *
 * How it works: a helper process stops the root, looks for its children in /proc, stops those in the tree, looks for
 * their children, and so on, until two walks in a row find the same processes, all of them stopped. A process that has
 * stopped forks no more, so by then no descendant can be missing. Then all get the signal, the root as the last.
 *
 *   the helper                            why it is a process of its own
 *   -----------------------------------   ----------------------------------------------------------------------
 *   blocks all signals                    if the caller is killed meanwhile, nothing is left stopped for ever
 *   shares the memory of the caller       no copy: it starts in the same time whatever the caller's size
 *   has its own table of descriptors,     a caller at its limit of descriptors can still be served
 *     and closes all but the pidfd
 *   is not in the tree                    so a process can have its own tree killed
 *
 * If the root ends meanwhile, by the hangup of a terminal for example, its children are orphans by then, and some of them
 * stopped. Those of the last walk at whose end it lived get the signal too, so that none stays stopped for ever.
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
