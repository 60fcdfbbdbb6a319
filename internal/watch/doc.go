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
//  4. Only a file whose content has changed since the last run began makes another.
//  5. What comes during a run makes one run after it, however much comes.
//  6. Every period, counted from the end of a run, makes one too.
//
// The package imports nothing of this module.
package watch
