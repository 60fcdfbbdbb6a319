package imageserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Listen opens the address of the site file's serve.listen. Where systemd has
// opened a socket for this process (socket activation), that one is used in its
// place, and the address is not looked at.
//
// The errors are *bmc.Error: KindBusy when somebody listens there already,
// KindAuth when the user may not.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, &bmc.Error{Op: "take the socket that systemd opened", Kind: bmc.KindUnreachable, Err: err, Hint: "write ListenStream= with a TCP port into the socket unit"}
	}
	for i, l := range handed {
		if tcp, ok := l.(*net.TCPListener); ok && i == 0 {
			return tcp, nil
		}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	e := &bmc.Error{Op: "listen on " + address, Kind: bmc.KindUnreachable, Err: plain(err), Hint: "write another address as serve.listen"}
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Kind, e.Err = bmc.KindBusy, errors.New("another program listens there")
		e.Hint = fmt.Sprintf("find it with `ss -ltnp 'sport = :%s'` and end it, or write another port as serve.listen and serve.url", port)
	case errors.Is(err, syscall.EACCES):
		e.Kind, e.Err = bmc.KindAuth, errors.New("only root may use ports below 1024")
		e.Hint = "run it as root, let systemd open the port (`livecd-sync serve --help`), give the program the right with `setcap cap_net_bind_service=+ep`, " +
			"or write a port from 1024 on, which not every BMC takes"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Err = errors.New("this machine has no such address")
		e.Hint = `write an address of this machine as serve.listen, or only a port, ":` + port + `", for all of them`
	}
	return nil, e
}

// plain takes the address out of a network error: the operation names it.
func plain(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
