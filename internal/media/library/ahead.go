package library

import "io"

// ahead reads from r in a goroutine of its own, up to four blocks ahead, so that
// what is done with the bytes takes no time from r. stop ends it, and waits for it.
func ahead(r io.Reader) (out io.Reader, stop func()) {
	a := &readAhead{full: make(chan chunk, 2), empty: make(chan []byte, 4), quit: make(chan struct{}), ended: make(chan struct{})}
	for range cap(a.empty) {
		a.empty <- make([]byte, block)
	}
	go a.fill(r)
	return a, func() { close(a.quit); <-a.ended }
}

type chunk struct {
	b   []byte
	err error
}

type readAhead struct {
	full        chan chunk
	empty       chan []byte
	quit, ended chan struct{}
	now         chunk
	at          int
}

func (a *readAhead) fill(r io.Reader) {
	defer close(a.ended)
	for {
		var b []byte
		select {
		case b = <-a.empty:
		case <-a.quit:
			return
		}
		n, err := readFull(r, b)
		select {
		case a.full <- chunk{b[:n], err}:
		case <-a.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

// readFull fills b; unlike io.ReadFull it gives the error as it was.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = r.Read(b[n:])
		n += more
	}
	return n, err
}

func (a *readAhead) Read(p []byte) (int, error) {
	for a.at == len(a.now.b) {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.b != nil {
			a.empty <- a.now.b[:block] // there is room for all of them
		}
		a.now, a.at = <-a.full, 0
	}
	n := copy(p, a.now.b[a.at:])
	a.at += n
	return n, nil
}
