package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// The ports of a simulated site. Each listener has an address of its own, so
// that they can be the same everywhere; those below 1024 would need root.
const (
	bmcPort  = 8443
	sshPort  = 2222
	httpPort = 80
)

// maxNodes is how many nodes fit into a block.
const maxNodes = 200

// A block is two neighbouring networks of 256 addresses, 127.a.b.0/24 for BMCs
// and services and 127.a.(b+1).0/24 for nodes. The whole of 127.0.0.0/8 is
// loopback: nothing that listens here can be reached from another machine.
type block struct{ a, b byte }

// randomBlock keeps away from 127.0.0.0/16, which other programs like.
func randomBlock() block {
	return block{a: byte(1 + rand.IntN(254)), b: byte(2 * rand.IntN(127))}
}

func (k block) bmc(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, k.a, k.b, byte(i)}) }

func (k block) node(i int) netip.Addr     { return netip.AddrFrom4([4]byte{127, k.a, k.b + 1, byte(i)}) }
func (k block) images() netip.Addr        { return k.bmc(250) }
func (k block) control() netip.Addr       { return k.bmc(251) }
func hostPort(a netip.Addr, p int) string { return net.JoinHostPort(a.String(), strconv.Itoa(p)) }

// listen opens a TCP listener on a loopback address, and on no other.
func listen(ctx context.Context, a netip.Addr, port int) (net.Listener, error) {
	if !a.IsLoopback() {
		return nil, fmt.Errorf("sim: %s is not a loopback address: a simulated site is for this machine only", a)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp4", hostPort(a, port))
}

// listenHTTP prefers port 80, the only one that a Gigabyte BMC mounts from
// (vendors.md 3.2); where that is forbidden or taken it is any other.
func listenHTTP(ctx context.Context, a netip.Addr) (l net.Listener, why error, err error) {
	l, why = listen(ctx, a, httpPort)
	if why == nil {
		return l, nil, nil
	}
	if !errors.Is(why, syscall.EACCES) && !errors.Is(why, syscall.EADDRINUSE) {
		return nil, nil, why
	}
	l, err = listen(ctx, a, 0)
	return l, why, err
}
