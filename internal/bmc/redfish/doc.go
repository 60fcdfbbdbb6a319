// Package redfish drives one BMC over HTTPS Redfish: it is the bmc.Client that
// talks to real hardware, and the only place that knows gofish.
//
// A pass over one BMC goes like this:
//
//  1. Open checks the configuration and sends nothing.
//  2. The first Observe walks by links only: service root, Systems, the System
//     that can be reset and booted, the Managers it names, their virtual media.
//     Where the root offers the query options only and $expand, they shorten it;
//     one that does not do what is offered is not used again.
//     It picks the row of profiles.cue and remembers where things are in a
//     Topology; each later Observe reads the System and the slot and no more.
//  3. Reads use HTTP Basic. The first write opens a session (bmc.AuthAuto).
//  4. Writes are single requests with exact bodies. A busy BMC is asked again
//     within a budget, a started task is followed to its end; a write whose
//     answer was lost is reported as Uncertain and never sent again.
//  5. Close deletes the session and the connection, on its own deadline.
//
// gofish sits on our transport: one TLS connection per pass, one request at a
// time, bounded bodies, credentials for one scheme and host only. What gofish
// cannot decode or loses (headers of errors, odd types, a Location that is
// absolute) is read by our own small documents (vendors.md 7.3 lists why).
//
// No BMC is treated by its name. What differs between families is a row of
// data, a strategy that the row names, or a reaction to a Redfish MessageId.
package redfish
