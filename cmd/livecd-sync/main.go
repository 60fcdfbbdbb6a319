// Command livecd-sync keeps the live ISOs of a site's nodes as a site file says.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "devel"

func main() { os.Exit(runWith(os.Stdout, os.Stderr)) }

// runWith runs the program with the process's arguments and signals.
func runWith(out, err io.Writer) int {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	return run(context.Background(), os.Args[1:], stdio{
		in: os.Stdin, out: out, err: err, signals: signals, getenv: os.Getenv, hangUp: hangUp,
	})
}

// hangUp sends hang-ups to the channel.
func hangUp(to chan<- os.Signal) func() {
	if signal.Ignored(syscall.SIGHUP) { // as nohup has it
		return func() {}
	}
	signal.Notify(to, syscall.SIGHUP)
	return func() { signal.Stop(to) }
}
