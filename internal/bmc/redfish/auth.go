package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// loginGrace is for how long a login goes on after its caller was cancelled: a
// session whose answer nobody reads could not be deleted again.
const loginGrace = 5 * time.Second

// openKey marks the context of a request that carries no credentials.
type openKey struct{}

// authorizer signs requests and holds what it needs for that. gofish would
// create a session before the first read, go on without authentication when
// the token is missing, and never log in again (vendors.md 7.3).
type authorizer struct {
	cred bmc.Credential
	mode bmc.Auth
	auto bmc.Auth       // what AuthAuto means for this BMC, by its profile; "" is the usual
	with map[string]any // what a login has beside name and password, by its profile

	token    string
	session  string   // its URI, to be deleted at the end
	rejected []string // sessions that the BMC did not know any more, so it said

	accepted bool  // Basic was accepted on this connection
	opened   bool  // a session was opened on this connection
	basic    bool  // sessions were tried and are not to be had
	refusal  error // the password was refused: nothing is sent any more
}

// adopt learns from the BMC's row.
func (a *authorizer) adopt(row bmc.Profile) { a.auto, a.with = row.Auth, row.Login }

// sign adds the credentials.
func (a *authorizer) sign(req *http.Request) {
	switch {
	case req.Context().Value(openKey{}) != nil:
	case a.token != "":
		req.Header.Set("X-Auth-Token", a.token)
	case a.cred.Username != "":
		req.SetBasicAuth(a.cred.Username, a.cred.Password.Reveal())
	}
}

// wantsSession tells whether a session has to be opened before the request.
func (a *authorizer) wantsSession(r request) bool {
	if r.open || r.basic || a.token != "" || a.cred.Username == "" {
		return false
	}
	if a.mode == bmc.AuthAuto {
		return !a.basic && a.auto != bmc.AuthBasic && (r.writes() || a.auto == bmc.AuthSession)
	}
	return a.mode == bmc.AuthSession
}

// send sends a request with credentials, and once more when a session had
// expired. A refused password is final for the connection: BMCs lock accounts
// after a few tries (vendors.md 9.2).
func (c *Client) send(ctx context.Context, op string, r request) (answer, error) {
	if c.auth.refusal != nil && !r.open {
		return answer{}, c.auth.refusal
	}
	if ctx.Err() != nil { // a login would outlive it
		return answer{}, c.lost(ctx, op, r, false, ctx.Err())
	}
	if c.auth.wantsSession(r) {
		if err := c.login(ctx); err != nil {
			return answer{}, err
		}
	}
	for again := false; ; again = true {
		withToken := c.auth.token != ""
		a, err := c.exchange(ctx, op, r)
		if err != nil || r.open || a.status != http.StatusUnauthorized {
			c.auth.accepted = c.auth.accepted || err == nil && !r.open && !withToken
			return a, err
		}
		if !withToken || again {
			c.auth.refusal = c.passwordRefused(op, r, a, withToken)
			return answer{}, c.auth.refusal
		}
		// The session ended under us; a 401 says that nothing was done. It may be a
		// slip, and the session still there: it is deleted with the others.
		c.auth.rejected = append(c.auth.rejected, c.auth.session)
		c.auth.token, c.auth.session = "", ""
		if c.auth.wantsSession(request{method: http.MethodPost}) {
			if err := c.login(ctx); err != nil {
				return answer{}, err
			}
		}
	}
}

func (c *Client) passwordRefused(op string, r request, a answer, withToken bool) error {
	e := c.refused(op, r, a)
	if c.auth.mode == bmc.AuthAuto && !withToken {
		// A login to find out would be a second failed try on the account.
		e.Hint += "; if they are right, the BMC may have Basic switched off: write bmc.auth: session"
	}
	return e
}

// login opens a session. With bmc.AuthAuto, a BMC that has none to give leaves
// us with Basic, which is no error.
func (c *Client) login(ctx context.Context) error {
	const op = "log in"
	uri, err := c.sessionsURI(ctx)
	if err != nil {
		return err
	}
	if uri == "" {
		return c.noSession(&bmc.Error{
			Op: op, Kind: bmc.KindUnsupported, Err: errors.New("the service root links no sessions"),
			Hint: "write bmc.auth: basic",
		})
	}
	login := map[string]any{"UserName": c.auth.cred.Username, "Password": c.auth.cred.Password.Reveal()}
	maps.Copy(login, c.auth.with)
	body, err := json.Marshal(login)
	if err != nil {
		return &bmc.Error{Op: op, Kind: bmc.KindAuth, Err: errors.New("the user name cannot be sent as JSON"), Hint: "check bmc.username"}
	}
	ctx, cancel := outlive(ctx, loginGrace)
	defer cancel()
	r := request{method: http.MethodPost, uri: uri, body: body, open: true}
	a, err := c.exchange(ctx, op, r)
	if err != nil {
		return settled(err)
	}
	if !a.ok() {
		return c.loginRefused(op, r, a)
	}
	return c.keepSession(op, a)
}

// settled: a login whose answer was lost has changed nothing of the machine.
func settled(err error) error {
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		e.Uncertain = false
	}
	return err
}

// loginRefused tells a wrong password from sessions that are not to be had:
// switched off, all taken (iDRAC's RAC0218, iLO's limit), or wanting more than
// the standard says (Huawei's Domain, vendors.md 3.11).
func (c *Client) loginRefused(op string, r request, a answer) error {
	e := c.refused(op, r, a)
	e.Uncertain = false
	// Basic was accepted and a session never was: not the password is wrong.
	if a.status == http.StatusUnauthorized && (!c.auth.accepted || c.auth.opened) {
		c.auth.refusal = e
		return e
	}
	return c.noSession(e)
}

func (c *Client) noSession(e *bmc.Error) error {
	if c.auth.mode == bmc.AuthSession {
		return e
	}
	c.auth.basic = true
	return nil
}

func (c *Client) keepSession(op string, a answer) error {
	var body sessionDoc
	if json.Unmarshal(a.body, &body) != nil {
		body = sessionDoc{}
	}
	ref := a.header.Get("Location")
	if ref == "" {
		ref = body.URI.v
	}
	if uri, err := c.endpoint.local(ref); err == nil {
		c.auth.session = uri
	}
	if c.auth.token = a.header.Get("X-Auth-Token"); c.auth.token == "" {
		c.auth.token = body.token()
	}
	if c.auth.token == "" {
		return c.noSession(&bmc.Error{
			Op: op, Kind: bmc.KindProtocol, Hint: "write bmc.auth: basic",
			Err: errors.New("the BMC opened a session and sent no token for it"),
		})
	}
	c.auth.opened = true
	return nil
}

// sessionDoc is the part of a new Session that is read.
type sessionDoc struct {
	URI maybe[string]    `json:"@odata.id"`
	Oem maybe[rawFields] `json:"Oem"`
}

// token is the token where it stands in the body only (Inspur, vendors.md 3.12).
func (s sessionDoc) token() string {
	for _, k := range slices.Sorted(maps.Keys(s.Oem.v)) {
		if t := textAt(s.Oem.v[k], []string{"X-Auth-Token"}); t != "" {
			return t
		}
	}
	return ""
}

// logout deletes the session, if there is one, after those that were rejected.
func (c *Client) logout(ctx context.Context) error {
	var err error
	if c.auth.session != "" {
		for _, uri := range c.auth.rejected {
			_ = c.endSession(ctx, uri) // as a rule it is gone
		}
		err = c.endSession(ctx, c.auth.session)
	}
	c.auth.token, c.auth.session, c.auth.rejected = "", "", nil
	return err
}

// endSession deletes a session. One that is gone already is none.
func (c *Client) endSession(ctx context.Context, uri string) error {
	r := request{method: http.MethodDelete, uri: uri}
	a, err := c.exchange(ctx, "log out", r)
	if err != nil {
		return settled(err)
	}
	switch a.status {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusGone:
		return nil
	}
	if !a.ok() {
		return settled(c.refused("log out", r, a))
	}
	return nil
}

// outlive gives a context that ends grace after ctx was cancelled.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return out, func() { stop(); cancel() }
}
