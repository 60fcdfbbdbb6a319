package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/media/isotest"
)

// Config describes a site to simulate.
type Config struct {
	Dir    string // made if need be; what an earlier simulation left there is used on
	Site   string // the site's name
	Nodes  []NodeSpec
	Images []ImageSpec
	// Want is the name of the image that the site file wants on all nodes.
	Want   string
	QEMU   QEMU
	Timing Timing
}

// QEMU describes the machines of nodes that are run in QEMU (package vm). All
// begin alike.
type QEMU struct {
	Disk      string // what their disks begin as; "" for empty disks
	MemoryMiB int    // 0 stands for 1024
	CPUs      int    // 0 stands for as many as this machine has, at most 2
}

// NodeSpec describes a node.
type NodeSpec struct {
	Name      string
	Groups    []string
	Kind      bmcsim.Kind
	Behaviour bmcsim.Behaviour
	// QEMU makes the node a real machine, which boots what its BMC says.
	QEMU    bool
	Initial InitialState
	// FirstLogin lets nobody in over ssh, after the boot of a live image, before a
	// first login on the serial console; not in QEMU, where the image decides.
	FirstLogin bool
	// Want is what the site file wants on this node; "" stands for Config.Want,
	// "none" for nothing.
	Want string
}

// InitialState is how a node is at first. The zero value runs from its disk.
type InitialState struct {
	Off   bool
	Image string // the name of the image that it runs and has mounted; "" for none
	// Overlay holds files of the overlay by their path below /; only for a node
	// that runs an image, and not in QEMU.
	Overlay map[string]string
}

// ImageSpec describes a live image.
type ImageSpec struct {
	Name string // of the image in the site file, and of its file
	// File is an image of one's own, which is served as it is; the fields below
	// describe an image that is made.
	File     string
	VolumeID string
	Created  time.Time
	Size     int64 // bytes
}

// Timing says how long things take.
type Timing struct {
	BMC  bmcsim.Timing
	Boot time.Duration // the end of POST to ssh
}

// Default describes the site of a first try: six nodes in different states, all
// of which the site file wants to run pit-1.7. A boot takes about half a second.
func Default(dir string) Config {
	zone := time.FixedZone("", 3600)
	live := func(note string) InitialState {
		return InitialState{Image: "pit-1.6", Overlay: map[string]string{
			"etc/motd":             note + "\n",
			"root/site-notes.txt":  "written by hand, and nowhere else\n",
			"var/log/site/day.log": "05:00 all quiet\n",
		}}
	}
	return Config{
		Dir: dir, Site: "sim", Want: "pit-1.7",
		Images: []ImageSpec{
			{Name: "pit-1.6", VolumeID: "CRAY-PIT-1.6.0", Created: time.Date(2026, 3, 2, 10, 0, 0, 0, zone), Size: 256 << 10},
			{Name: "pit-1.7", VolumeID: "CRAY-PIT-1.7.0", Created: time.Date(2026, 11, 2, 16, 30, 0, 0, zone), Size: 256 << 10},
		},
		Nodes: []NodeSpec{
			{Name: "ncn-m001", Groups: []string{"managers"}, Kind: bmcsim.ILO5, Initial: live("ncn-m001: admin node")},
			{Name: "ncn-m002", Groups: []string{"managers"}, Kind: bmcsim.ILO5, Initial: live("ncn-m002: standby")},
			{Name: "ncn-s001", Groups: []string{"storage"}, Kind: bmcsim.Gigabyte, Initial: live("ncn-s001: storage")},
			{
				Name: "ncn-s002", Groups: []string{"storage"}, Kind: bmcsim.Gigabyte, Initial: InitialState{Off: true},
				Behaviour: bmcsim.Behaviour{RemoteMediaOff: true},
			},
			{Name: "ncn-w001", Groups: []string{"workers"}, Kind: bmcsim.ILO5},
			{Name: "ncn-w002", Groups: []string{"workers"}, Kind: bmcsim.ILO5, Initial: InitialState{Off: true}},
		},
		Timing: Timing{
			BMC:  bmcsim.Timing{Post: 300 * time.Millisecond, Shutdown: 50 * time.Millisecond, MediaTask: 100 * time.Millisecond},
			Boot: 200 * time.Millisecond,
		},
	}
}

// A Site is a running simulation. Its methods are safe for concurrent use.
type Site struct {
	cfg     Config
	block   block
	secrets secrets
	nodes   []*Node
	images  *images
	control *control
	notes   []string
	anyPort bool // images are not on port 80
	lock    *os.File
}

// Start starts a site, and returns once its nodes are in their initial states.
// ctx bounds the start only; Close ends the site.
func Start(ctx context.Context, cfg Config) (*Site, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	cfg.Dir, cfg.Nodes, cfg.Images = dir, slices.Clone(cfg.Nodes), slices.Clone(cfg.Images)
	for i := range cfg.Images {
		if err := cfg.Images[i].identify(); err != nil {
			return nil, err
		}
	}
	s := &Site{cfg: cfg}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// plainName is a name that is safe in a file system and a URL of any BMC.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (c Config) check() error {
	if c.Dir == "" {
		return errors.New("sim: no directory to keep the simulated site in")
	}
	if len(c.Nodes) > maxNodes {
		return fmt.Errorf("sim: %d nodes are too many to simulate: %d is the limit", len(c.Nodes), maxNodes)
	}
	if c.Site == "" {
		return errors.New("sim: the simulated site has no name")
	}
	images := map[string]bool{"": true}
	for _, i := range c.Images {
		if len(i.VolumeID) > isotest.MaxVolumeID {
			return fmt.Errorf("sim: image %s: the volume id %q is longer than %d characters", i.Name, i.VolumeID, isotest.MaxVolumeID)
		}
		if !plainName.MatchString(i.Name) || images[i.Name] {
			return fmt.Errorf("sim: the image name %q is not plain, or is used twice", i.Name)
		}
		images[i.Name] = true
	}
	names := map[string]bool{}
	for _, n := range c.Nodes {
		if names[n.Name] {
			return fmt.Errorf("sim: the node name %q is used twice", n.Name)
		}
		names[n.Name] = true
		if err := n.check(images); err != nil {
			return err
		}
	}
	return nil
}

func (n NodeSpec) check(images map[string]bool) error {
	switch overlay := len(n.Initial.Overlay) > 0; {
	case !plainName.MatchString(n.Name):
		return fmt.Errorf("sim: the node name %q is not plain", n.Name)
	case overlay && (n.Initial.Off || n.Initial.Image == ""):
		return fmt.Errorf("sim: node %s has files in its overlay, but runs no image", n.Name)
	case overlay && n.QEMU:
		return fmt.Errorf("sim: node %s is run in QEMU: nobody but its own system can write to its overlay", n.Name)
	case !images[n.Initial.Image]:
		return fmt.Errorf("sim: node %s runs the image %q, which is not among the images", n.Name, n.Initial.Image)
	}
	return nil
}

func (s *Site) start(ctx context.Context) error {
	if err := s.claim(); err != nil {
		return err
	}
	var err error
	if s.secrets, err = newSecrets(s.cfg.Dir); err != nil {
		return err
	}
	if err := writeImages(filepath.Join(s.cfg.Dir, "iso"), s.cfg.Images); err != nil {
		return err
	}
	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	if err := s.serve(ctx, listeners); err != nil {
		listeners.close()
		return err
	}
	for _, n := range s.nodes {
		if err := n.awaitInitial(ctx); err != nil {
			return err
		}
	}
	if err := s.writeSiteFile(); err != nil {
		return err
	}
	return s.writeControlURL()
}

// claim makes the directory this site's alone.
func (s *Site) claim() error {
	if err := os.MkdirAll(s.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("sim: make the directory of the site: %w", err)
	}
	if err := s.ownSiteFile(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("sim: lock the directory of the site: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("sim: %s: another simulation runs in this directory", s.cfg.Dir)
	}
	s.lock = f
	return nil
}

// listeners are the site's, all in one block of addresses.
type listeners struct {
	bmcs            []net.Listener
	images, control net.Listener
	noPort80        error
}

func (l *listeners) close() {
	for _, x := range append(l.bmcs, l.images, l.control) {
		if x != nil {
			_ = x.Close()
		}
	}
}

// listen finds a block of addresses that is free.
func (s *Site) listen(ctx context.Context) (*listeners, error) {
	const tries = 16 // of 32,000 blocks, a few of which other simulations have
	var err error
	for range tries {
		s.block = randomBlock()
		var l *listeners
		if l, err = s.listenIn(ctx, s.block); err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("sim: find free loopback addresses: %w", err)
}

func (s *Site) listenIn(ctx context.Context, k block) (l *listeners, err error) {
	l = &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for i := range s.cfg.Nodes {
		bmcs, err := listen(ctx, k.bmc(i+1), bmcPort)
		if err != nil {
			return l, err
		}
		l.bmcs = append(l.bmcs, bmcs)
		nodes, err := listen(ctx, k.node(i+1), sshPort) // only to see that it is free
		if err != nil {
			return l, err
		}
		_ = nodes.Close()
	}
	if l.images, l.noPort80, err = listenHTTP(ctx, k.images()); err != nil {
		return l, err
	}
	l.control, err = listen(ctx, k.control(), 0)
	return l, err
}

// serve starts all servers and machines.
func (s *Site) serve(ctx context.Context, l *listeners) error {
	s.images = serveImages(l.images, filepath.Join(s.cfg.Dir, "iso"))
	if l.noPort80 != nil {
		s.withoutPort80(l.noPort80)
	}
	if os.Geteuid() != 0 {
		s.note("not run by root: owners, ACLs and extended attributes of overlay files are not restored")
	}
	if slices.ContainsFunc(s.cfg.Nodes, func(n NodeSpec) bool { return n.QEMU }) {
		s.note("nodes are real machines in QEMU; their serial consoles are the sockets " + filepath.Join(s.cfg.Dir, "nodes", "NAME", "console.sock"))
	}
	for i, spec := range s.cfg.Nodes {
		n, err := s.newNode(ctx, i, spec)
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
		n.serveBMC(l.bmcs[i])
	}
	s.control = serveControl(l.control, s)
	return nil
}

// withoutPort80 notes what becomes of Gigabyte BMCs. Their rows of profiles.cue
// refuse an image on another port, so the site file names the row that does not.
func (s *Site) withoutPort80(why error) {
	s.anyPort = true
	s.note(fmt.Sprintf("images are not on port 80, the only one that Gigabyte BMCs mount from in truth: %v "+
		"(users may listen there after: sysctl net.ipv4.ip_unprivileged_port_start=80); the site file has "+
		"bmc.profile: %s for them, which allows any port", why, anyPortProfile))
}

func (s *Site) note(text string) { s.notes = append(s.notes, text) }

func (s *Site) newNode(ctx context.Context, i int, spec NodeSpec) (*Node, error) {
	cert, err := newCertificate(spec.Name, s.block.bmc(i+1))
	if err != nil {
		return nil, err
	}
	n := &Node{
		spec: spec, dir: filepath.Join(s.cfg.Dir, "nodes", spec.Name),
		address: s.block.node(i + 1), bmcAt: s.block.bmc(i + 1), cert: cert,
		drive: newDrive(s.block.bmc(i + 1)), attached: make(chan struct{}), changed: make(chan struct{}),
	}
	if n.computer, err = s.newComputer(ctx, n); err != nil {
		return nil, err
	}
	cfg := bmcsim.Config{
		Kind: spec.Kind, Host: n.computer, Name: spec.Name, Username: "root", Password: s.secrets.bmcPassword,
		Behaviour: spec.Behaviour, Timing: s.cfg.Timing.BMC, InitialPower: bmc.PowerOn, Fetch: n.drive.check,
	}
	if spec.Initial.Off {
		cfg.InitialPower = bmc.PowerOff
	}
	if spec.Initial.Image != "" {
		cfg.Running.Image = s.images.url(spec.Initial.Image)
	}
	n.machine = bmcsim.New(cfg)
	close(n.attached)
	return n, nil
}

func (s *Site) newComputer(ctx context.Context, n *Node) (computer, error) {
	if n.spec.QEMU {
		return newInQEMU(ctx, n, s.cfg.QEMU, s.secrets.authorizedKey())
	}
	p := &inProcess{node: n, login: s.secrets.login, bootTime: s.cfg.Timing.Boot}
	if n.spec.FirstLogin {
		var err error
		if p.serial, err = openSerial(n, p.system); err != nil { //nolint:contextcheck // the console is there until the simulation ends
			return nil, err
		}
	}
	return p, nil
}

func (n *Node) awaitInitial(ctx context.Context) error {
	if n.spec.Initial.Off {
		return nil
	}
	err := n.Await(ctx, func(s Status) bool { return s.Running != RunningNothing || s.Error != "" })
	if err != nil {
		return err
	}
	if s := n.Status(); s.Error != "" {
		return fmt.Errorf("sim: start %s: %s", s.Name, s.Error)
	}
	return n.prepare()
}

// SiteFile is the path of the site file that describes the simulated site.
func (s *Site) SiteFile() string { return filepath.Join(s.cfg.Dir, siteFileName) }

// Node returns the node of that name, or nil.
func (s *Site) Node(name string) *Node {
	for _, n := range s.nodes {
		if n.spec.Name == name {
			return n
		}
	}
	return nil
}

// Nodes returns all nodes, in the order of Config.
func (s *Site) Nodes() []*Node { return slices.Clone(s.nodes) }

// Notes are sentences for people: how to get at nodes, and what this machine does
// not let the simulation do.
func (s *Site) Notes() []string { return slices.Clone(s.notes) }

// ControlURL is the base of the control API, with a slash at its end. It holds a
// secret.
func (s *Site) ControlURL() string { return s.control.url }

// ImageURL is where the image of that name is served.
func (s *Site) ImageURL(name string) string { return s.images.url(name) }

// ImageReads counts the range requests for the image of that name.
func (s *Site) ImageReads(name string) int { return s.images.rangeReads(name) }

// ImageBytes counts the bytes that were sent of the image of that name.
func (s *Site) ImageBytes(name string) int64 { return s.images.bytesSent(name) }

// Close ends everything that runs or listens. Files stay. It may be called
// twice.
func (s *Site) Close() error {
	if s.control != nil {
		s.control.close()
	}
	var err error
	for _, n := range s.nodes {
		err = errors.Join(err, n.close())
	}
	s.nodes = nil
	if s.images != nil {
		s.images.close()
	}
	if s.lock == nil {
		return err
	}
	removed := os.Remove(filepath.Join(s.cfg.Dir, controlFileName))
	if errors.Is(removed, os.ErrNotExist) {
		removed = nil
	}
	err = errors.Join(err, removed, s.lock.Close())
	s.lock = nil
	return err
}
