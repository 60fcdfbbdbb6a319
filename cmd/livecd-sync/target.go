package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/recording"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/observe"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/secret"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/noderange"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
	"github.com/livecd-sync/livecd-sync/internal/writers"
)

// A target is a valid site file, reduced to the selected nodes, and everything
// that is needed to reach them.
type target struct {
	app      *app
	site     *site.Site
	images   map[string]plan.ImageFacts // as last observed
	accept   map[string]bool
	profiles []bmc.Profile
	secrets  *secret.Keeper
	log      zerolog.Logger
	nodes    *nodes
	dialer   redfish.Dialer

	certificates certificates
	recorder     *recording.Recorder // nil: nothing is recorded

	shared *sharing                 // nil: the command changes no node
	seen   map[string]writers.Seen  // of the locks, before the nodes were last observed
	pauses map[string]writers.Pause // that held then
}

// open loads the site file, selects the nodes and fetches their secrets, so that
// whatever is wrong with those shows before anything is done.
func (a *app) open(ctx context.Context, accept []string) (*target, error) {
	s, err := a.load()
	if err != nil {
		return nil, err
	}
	t, err := a.openSite(ctx, s, accept)
	if t != nil {
		a.atEnd = append(a.atEnd, t.nodes.close)
	}
	return t, err
}

// reach prepares to reach a site's nodes and stores; what it opens is closed at
// the end of the command.
func (a *app) reach(s *site.Site) *nodes {
	c := a.newNodes(s)
	a.atEnd = append(a.atEnd, c.close)
	return c
}

func (a *app) newNodes(s *site.Site) *nodes {
	return &nodes{site: s, secrets: new(secret.Keeper), clock: a.clock, version: version, agent: a.getenv("SSH_AUTH_SOCK"), state: a.stateDir("hostkeys")}
}

func (a *app) openSite(ctx context.Context, s *site.Site, accept []string) (*target, error) {
	u := universe(s)
	names, err := u.Select(a.nodes, a.exclude)
	if err != nil {
		return nil, err
	}
	t, err := a.newTarget(only(s, names))
	if err != nil {
		return nil, err
	}
	if len(accept) > 0 {
		given, err := u.Select(accept, nil)
		if err != nil {
			return nil, fmt.Errorf("--accept-data-loss: %w", err)
		}
		for _, n := range given {
			t.accept[n] = true
		}
	}
	if err := errors.Join(t.checkSecrets(ctx), t.checkCertificates(), t.checkStores(), t.checkLogins()); err != nil {
		return t, err
	}
	t.recorder, err = a.recorder(t.site)
	return t, err
}

// newTarget prepares to reach a site's nodes. It fetches nothing.
func (a *app) newTarget(s *site.Site) (*target, error) {
	t := &target{app: a, site: s, accept: map[string]bool{}, log: a.logger()}
	var err error
	if t.profiles, err = siteload.Profiles(); err != nil {
		return nil, err
	}
	t.dialer = redfish.Dialer{Profiles: t.profiles, Clock: a.clock, Log: t.logExchange, Cache: a.cacheDir("topology")}
	if a.record != "" {
		t.dialer.Cache = "" // what is not asked cannot be recorded
	}
	t.nodes = a.newNodes(s)
	t.secrets = t.nodes.secrets
	return t, nil
}

// cacheDir is where caches are: what systemd gave the service (CacheDirectory=,
// systemd.exec(5)), else by the XDG base directory specification; "" where the
// environment names no place.
func (a *app) cacheDir(name string) string {
	if dir := a.unitDir("CACHE_DIRECTORY"); dir != "" {
		return filepath.Join(dir, name)
	}
	return a.userDir("XDG_CACHE_HOME", ".cache", name)
}

// serviceState is where the service of the packages keeps its state.
const serviceState = "/var/lib/livecd-sync"

// stateDir is where the user's programs keep what they have found out, likewise.
// The service's own user has the service's, so that what he runs by hand and the
// service have one history and the same locks.
func (a *app) stateDir(name string) string {
	if dir := a.unitDir("STATE_DIRECTORY"); dir != "" {
		return filepath.Join(dir, name)
	}
	if a.getenv("XDG_STATE_HOME") == "" && a.getenv("HOME") == serviceState {
		return filepath.Join(serviceState, name)
	}
	return a.userDir("XDG_STATE_HOME", filepath.Join(".local", "state"), name)
}

// unitDir is the first of the directories that systemd names in a variable.
func (a *app) unitDir(variable string) string {
	dir, _, _ := strings.Cut(a.getenv(variable), ":")
	if !filepath.IsAbs(dir) {
		return ""
	}
	return dir
}

func (a *app) userDir(variable, below, name string) string {
	dir := a.getenv(variable)
	if home := a.getenv("HOME"); !filepath.IsAbs(dir) && filepath.IsAbs(home) {
		dir = filepath.Join(home, below)
	}
	if !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Join(dir, "livecd-sync", name)
}

func universe(s *site.Site) noderange.Universe {
	u := noderange.Universe{Groups: s.Groups}
	for _, n := range s.Nodes {
		u.Names = append(u.Names, n.Name)
	}
	return u
}

// only is the site with no nodes but the named.
func only(s *site.Site, names []string) *site.Site {
	part := *s
	part.Nodes = slices.DeleteFunc(slices.Clone(s.Nodes), func(n site.Node) bool { return !slices.Contains(names, n.Name) })
	return &part
}

// checkSecrets fetches every secret that the selected nodes need and names each
// that is missing.
func (t *target) checkSecrets(ctx context.Context) error {
	var missing []error
	asked := map[string]bool{}
	check := func(at site.Pos, what string, ref site.SecretRef) {
		id := secret.Key(ref)
		if asked[id] {
			return
		}
		asked[id] = true
		if _, err := t.secrets.Get(ctx, ref); err != nil {
			missing = append(missing, fmt.Errorf("%s: %s: %w\n  → %s", at, what, err, bmc.HintOf(err)))
		}
	}
	for _, n := range t.site.Nodes {
		check(n.At("bmc.password"), "bmc.password of "+n.Name, n.BMC.Password)
		if n.SSH != nil {
			check(n.At("ssh.password"), "ssh.password of "+n.Name, n.SSH.Password)
		}
		if n.Login != nil {
			check(n.At("login.password"), "login.password of "+n.Name, n.Login.Password)
			check(n.At("login.initial"), "login.initial of "+n.Name, n.Login.Initial)
		}
	}
	for _, s := range t.stores() {
		refs := s.Secrets()
		for _, field := range slices.Sorted(maps.Keys(refs)) {
			check(s.Pos, field+" of store "+s.Name, refs[field])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return plainError{errors.Join(missing...)}
}

// stores are those of the selected nodes whose overlay is managed, by name.
func (t *target) stores() []site.Store {
	var names []string
	for _, n := range t.site.Nodes {
		if n.OverlayManaged() {
			names = append(names, n.Overlay.Store)
		}
	}
	slices.Sort(names)
	var list []site.Store
	for _, name := range slices.Compact(names) {
		list = append(list, t.site.Stores[name])
	}
	return list
}

// checkStores opens the stores that the selected nodes have, which asks nobody.
func (t *target) checkStores() error {
	var wrong []error
	for _, s := range t.stores() {
		if _, err := t.nodes.openStore(s.Name); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w\n  → %s", s.Pos, err, bmc.HintOf(err)))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return plainError{errors.Join(wrong...)}
}

// checkCertificates reads every file that says which certificates the selected
// nodes' BMCs must show.
func (t *target) checkCertificates() error {
	var wrong []error
	told := map[string]bool{}
	for _, n := range t.site.Nodes {
		err := t.certificates.check(n.BMC)
		if err == nil || told[err.Error()] {
			continue
		}
		told[err.Error()] = true
		wrong = append(wrong, fmt.Errorf("%s: %w\n  → %s", n.At("bmc.tls"), err, bmc.HintOf(err)))
	}
	if len(wrong) == 0 {
		return nil
	}
	return plainError{errors.Join(wrong...)}
}

// A plainError says everything in its text, hint included.
type plainError struct{ error }

// plan observes the selected nodes and computes what they need.
func (t *target) plan(ctx context.Context) plan.Plan {
	t.look(ctx) // before they are observed: by it is seen what changes after
	o := t.observer().Run(ctx, t.site)
	t.images = o.Images
	p := plan.Compute(t.site, o, t.accept)
	t.noteWriters(&p)
	return p
}

func (t *target) observer() *observe.Observer {
	client := media.NewClient()
	return &observe.Observer{
		BMC: t.observeBMC, Host: t.nodes.Host, Overlay: t.nodes.Overlay,
		Image: func(ctx context.Context, img site.Image) (site.Volume, error) {
			id, err := media.Identify(ctx, client, img)
			return id.Volume, err
		},
		Profiles: t.profilesByName(), Clock: t.app.clock, Jobs: t.app.jobs, Timeout: t.app.timeout,
	}
}

func (t *target) profilesByName() map[string]bmc.Profile {
	m := make(map[string]bmc.Profile, len(t.profiles))
	for _, p := range t.profiles {
		m[p.Name] = p
	}
	return m
}

// observeBMC reads a node's BMC over a connection of its own.
func (t *target) observeBMC(ctx context.Context, n site.Node) (bmc.State, error) {
	c, err := t.dial(ctx, n)
	if err != nil {
		return bmc.State{}, err
	}
	s, err := c.Observe(ctx)
	if closeErr := c.Close(ctx); err == nil && closeErr != nil {
		t.log.Warn().Str("node", n.Name).Err(closeErr).Msg("the connection to the BMC did not end well")
	}
	return s, err
}

// dial prepares a connection to a node's BMC. What the last one found of its
// tree is used again.
func (t *target) dial(ctx context.Context, n site.Node) (bmc.Client, error) {
	conf, err := t.config(ctx, n)
	if err != nil {
		return nil, err
	}
	return t.dialer.Dial(ctx, conf)
}

// config is how to reach a node's BMC.
func (t *target) config(ctx context.Context, n site.Node) (redfish.Config, error) {
	password, err := t.secrets.Get(ctx, n.BMC.Password)
	if err != nil {
		return redfish.Config{}, err
	}
	tls, err := t.certificates.of(n.BMC)
	if err != nil {
		return redfish.Config{}, err
	}
	conf := redfish.Config{
		NoKeepAlive: n.BMC.NoKeepAlive,
		Node:        n.Name, URL: n.BMC.URL, System: n.BMC.System, Auth: n.BMC.Auth, TLS: tls, ProfileName: n.BMC.Profile,
		Credential: bmc.Credential{Username: n.BMC.Username, Password: password},
	}
	if t.recorder != nil {
		conf.Tap = t.recorder.Tap(n.BMC.URL, n.BMC.Username, password.Reveal())
	}
	return conf, nil
}

func (t *target) logExchange(x redfish.Exchange) {
	e := t.log.Debug().Str("node", x.Node).Str("method", x.Method).Str("uri", x.URI).Dur("took", x.Took)
	if x.Status != 0 {
		e = e.Int("status", x.Status)
	}
	if x.Err != nil {
		e = e.AnErr("error", x.Err)
	}
	e.Msg("redfish")
}

// runner makes what applies p, which was made by t.plan.
func (t *target) runner(p plan.Plan) *apply.Runner {
	r := &apply.Runner{
		Dial: t.dial, Host: t.nodes.Host, Login: t.login, Beside: t.observer().Beside, Overlays: t.nodes, Images: t.images,
		Accept: t.accept, Clock: t.app.clock, Jobs: t.app.jobs, Claim: t.claim,
	}
	if t.app.quiet {
		return r
	}
	names := make([]string, 0, len(p.Nodes))
	for _, n := range p.Nodes {
		names = append(names, n.Node)
	}
	_, tty := terminal(t.app.err)
	r.Emit = report.NewProgress(t.app.err, report.ProgressOptions{
		Color: tty && t.app.getenv("NO_COLOR") == "", JSON: t.app.logFormat == "json", Verbose: t.app.verbose, Nodes: names,
	}).Event
	return r
}
