package redfish

import (
	"context"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Console finds out how a BMC gives its system's serial console: the row for it,
// and, where that does not name a way, what the BMC says itself. Nothing is asked
// where the row is known, by conf or since an earlier connection. BMCs that
// cannot be used for anything else have a row too. The errors are of type
// *bmc.Error.
func (d *Dialer) Console(ctx context.Context, conf Config) (bmc.Profile, bmc.SerialConsole, error) {
	for _, p := range d.Profiles {
		if p.Name == conf.ProfileName && p.Console != "" {
			return p, bmc.SerialConsole{}, nil
		}
	}
	opened, err := d.Dial(ctx, conf)
	if err != nil {
		return bmc.Profile{}, bmc.SerialConsole{}, err
	}
	c, ok := opened.(*Client)
	if !ok {
		return bmc.Profile{}, bmc.SerialConsole{}, unsupported("find the console", "the connection is none of Redfish", "report this")
	}
	row, says, err := c.console(ctx)
	if closeErr := c.Close(ctx); err == nil {
		err = closeErr
	}
	return row, says, err
}

func (c *Client) console(ctx context.Context) (bmc.Profile, bmc.SerialConsole, error) {
	if c.tree != nil && c.tree.Profile.Console != "" {
		return c.tree.Profile, bmc.SerialConsole{}, nil
	}
	root, err := c.readRoot(ctx)
	if err != nil {
		return bmc.Profile{}, bmc.SerialConsole{}, err
	}
	sys, err := c.findSystem(ctx, root)
	if err != nil {
		return bmc.Profile{}, bmc.SerialConsole{}, err
	}
	managers, err := c.managers(ctx, root, sys)
	if err != nil {
		return bmc.Profile{}, bmc.SerialConsole{}, err
	}
	row, err := c.chooseProfile(root, sys, managers, identity(root, sys, managers))
	says := sys.doc.Console.v
	return row, bmc.SerialConsole{SSH: says.SSH.v.service(), IPMI: says.IPMI.v.service()}, err
}

// service is what a document says of one protocol, as far as it can be true.
func (d consoleDoc) service() bmc.ConsoleService {
	s := bmc.ConsoleService{Enabled: d.Enabled.v, Entry: strings.TrimSpace(d.Entry.v)}
	if d.Port.v >= 1 && d.Port.v <= 65535 {
		s.Port = d.Port.v
	}
	// It is typed at a command line.
	if strings.ContainsFunc(s.Entry, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		s.Entry = ""
	}
	return s
}
