package apply

import "time"

// Timing bounds the waits of a run. A zero field means its default. The defaults
// follow vendors.md 9.1.
type Timing struct {
	// PollFirst is the first pause between two looks; each further one is 1.6
	// times longer, up to PollMost.
	PollFirst, PollMost time.Duration
	// Lag is the pause before the first look at what cannot be there at once: a
	// machine that was asked to shut down, or that was just started.
	Lag time.Duration
	// Shutdown is how long a machine may take to go down when asked; after that
	// it is switched off.
	Shutdown time.Duration
	// Power bounds the wait for a power state that was forced.
	Power time.Duration
	// OffSettle is the pause after which a machine that is off must still be off.
	OffSettle time.Duration
	// Enable, Eject, Insert and Override bound the waits for a write to show.
	Enable, Eject, Insert, Override time.Duration
	// Stale is how long an ejected image may stay named before that is taken for
	// what this BMC always does, and how long a machine that boots may show
	// itself off, or without its image, before that is taken for the truth.
	Stale time.Duration
	// AskBMC is the pause between two looks at the BMC while the node is asked
	// over ssh.
	AskBMC time.Duration
	// LetIn is how long a node may take, after its first login, to let ssh in.
	LetIn time.Duration
	// Host bounds one question to the node over ssh.
	Host time.Duration
}

func (t Timing) orDefaults() Timing {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.PollFirst, 400 * time.Millisecond},
		{&t.PollMost, 15 * time.Second},
		{&t.Lag, 2 * time.Second},
		{&t.Shutdown, time.Minute},
		{&t.Power, 2 * time.Minute},
		{&t.OffSettle, 2 * time.Second},
		{&t.Enable, time.Minute},
		{&t.Eject, time.Minute},
		{&t.Insert, 2 * time.Minute},
		{&t.Override, time.Minute},
		{&t.Stale, 10 * time.Second},
		{&t.AskBMC, 15 * time.Second},
		{&t.LetIn, 2 * time.Minute},
		{&t.Host, 30 * time.Second},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return t
}
