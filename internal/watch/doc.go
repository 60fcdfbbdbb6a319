// Package watch says when to do something again: because a file has changed, or
// because time has passed. It knows nothing of what is done.
//
//  1. The first run is at once.
//  2. Directories are watched, not the file: editors replace a file by renaming
//     another over it, and Kubernetes swaps a symlink two levels up. The
//     directories are those of every link on the way to the file, and the nearest
//     one that exists where one is missing.
//  3. An event means "look again" and nothing more, so events may be dropped and
//     merged. When none has come for Debounce, the file is read.
//     A file that is never left alone is read after ten times as long.
//  4. Only a file whose content has changed since the last run began makes another,
//     or one that could not be read meanwhile.
//  5. A run names further files, which are watched in the same way.
//  6. What comes during a run makes one run after it, however much comes.
//  7. Every period, counted from the end of a run and with some jitter, makes one
//     too, and so does who asks, and a run that wants to be followed by another.
//
// The package imports nothing of this module.
package watch
