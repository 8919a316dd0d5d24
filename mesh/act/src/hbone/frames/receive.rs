//! Frames that come in (RFC 9113 6).

use super::{
    Endpoint, Event, Fault, Reason, Side,
    input::{Data, Phase, take},
    settings::LARGEST_WINDOW,
    stream::By,
    wire::{FrameHeader, HEADER, PREFACE, flag, kind},
};

fn protocol<V>(why: &'static str) -> Result<V, Fault> {
    Err(Fault(Reason::PROTOCOL_ERROR, why))
}

fn size<V>(why: &'static str) -> Result<V, Fault> {
    Err(Fault(Reason::FRAME_SIZE_ERROR, why))
}

impl<T: Default> Endpoint<T> {
    /// Reads from the front of `input` until something happened that its user must know, or nothing is left.
    ///
    /// # Errors
    /// What the peer did wrong; the reason is to be sent by [`Endpoint::go_away`], and nothing more to be read.
    pub(in crate::hbone) fn receive<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if let Phase::Data(data) = self.phase {
                if data.left + data.padding == 0 {
                    self.phase = Phase::header();
                    if data.end {
                        self.ended(data.stream);
                    }
                    continue;
                }
                if input.is_empty() {
                    return Ok(None);
                }
                if let Some(event) = self.data(data, input) {
                    return Ok(Some(event));
                }
                continue;
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.advance(input)?;
        }
    }

    /// Reads on in whatever is no DATA.
    fn advance(&mut self, input: &mut &[u8]) -> Result<(), Fault> {
        match &mut self.phase {
            Phase::Preface(seen) => {
                let expected = PREFACE.get(*seen..).unwrap_or_default();
                let said = take(input, expected.len());
                if !expected.starts_with(said) {
                    return protocol("no preface of HTTP/2");
                }
                *seen += said.len();
                if *seen == PREFACE.len() {
                    self.phase = Phase::header();
                }
                Ok(())
            }
            Phase::Header(header, filled) => {
                let said = take(input, HEADER - *filled);
                let room = header.get_mut(*filled..*filled + said.len()).unwrap_or_default();
                room.copy_from_slice(said);
                *filled += said.len();
                if *filled < HEADER {
                    return Ok(());
                }
                let header = FrameHeader::parse(*header);
                self.begin(header, input)
            }
            Phase::Body(header, body) => {
                let header = *header;
                body.extend_from_slice(take(input, header.length - body.len()));
                if body.len() < header.length {
                    return Ok(());
                }
                let body = std::mem::take(body);
                self.phase = Phase::header();
                self.whole(header, &body)
            }
            Phase::Padding(header) => {
                let header = *header;
                let padding = take(input, 1).first().copied().unwrap_or_default();
                let rest = u32::try_from(header.length).unwrap_or(u32::MAX) - 1;
                let Some(left) = rest.checked_sub(u32::from(padding)) else {
                    return protocol("more padding than frame");
                };
                self.release_received(header.stream, 1 + u32::from(padding));
                self.phase = Phase::Data(Data {
                    stream: header.stream,
                    left,
                    padding: padding.into(),
                    end: header.has(flag::END_STREAM),
                });
                Ok(())
            }
            // Read above.
            Phase::Data(_) => Ok(()),
        }
    }

    /// A frame's header is read.
    fn begin(&mut self, header: FrameHeader, input: &mut &[u8]) -> Result<(), Fault> {
        self.phase = Phase::header();
        if header.length > usize::try_from(self.settings.frame).unwrap_or(usize::MAX) {
            return size("a frame larger than we allow");
        }
        if !self.introduced && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return protocol("the first frame is no SETTINGS");
        }
        if let Some(block) = &self.block
            && (header.kind != kind::CONTINUATION || header.stream != block.stream)
        {
            return protocol("a header block was interrupted");
        }
        if header.kind == kind::DATA {
            return self.begin_data(header);
        }
        self.check(header)?;
        if input.len() >= header.length {
            let body = take(input, header.length);
            return self.whole(header, body);
        }
        self.phase = Phase::Body(header, Vec::new());
        Ok(())
    }

    /// What the header alone must be, before its body is waited for.
    fn check(&mut self, header: FrameHeader) -> Result<(), Fault> {
        let on_connection = match header.kind {
            kind::SETTINGS | kind::PING | kind::GOAWAY => true,
            kind::HEADERS | kind::CONTINUATION | kind::RST_STREAM | kind::PRIORITY => false,
            kind::PUSH_PROMISE => return protocol("a PUSH_PROMISE, which nobody wants"),
            // On either.
            _ => header.stream == 0,
        };
        if on_connection != (header.stream == 0) {
            return protocol("a frame on a stream that it cannot be on");
        }
        let fits = match header.kind {
            kind::RST_STREAM | kind::WINDOW_UPDATE => header.length == 4,
            kind::PRIORITY => header.length == 5,
            kind::PING => header.length == 8,
            kind::GOAWAY => header.length >= 8,
            kind::SETTINGS if header.has(flag::ACK) => header.length == 0,
            kind::SETTINGS => header.length.is_multiple_of(6),
            _ => true,
        };
        if !fits {
            return size("a frame of a length that it cannot have");
        }
        Ok(())
    }

    fn begin_data(&mut self, header: FrameHeader) -> Result<(), Fault> {
        if header.stream == 0 || self.is_idle(header.stream) {
            return protocol("DATA on a stream that was never opened");
        }
        let length = u32::try_from(header.length).unwrap_or(u32::MAX);
        if !self.receive.take(length) {
            return Err(Fault(
                Reason::FLOW_CONTROL_ERROR,
                "more DATA than the connection's window",
            ));
        }
        match self.streams.get_mut(&header.stream) {
            Some(stream) if stream.reset == Some(By::Us) => {}
            Some(stream) if stream.ended_there || stream.reset.is_some() => {
                return Err(Fault(Reason::STREAM_CLOSED, "DATA on a stream that its sender ended"));
            }
            Some(stream) if !stream.headed => return protocol("DATA before the head"),
            Some(stream) => {
                if !stream.receive.take(length) {
                    self.give_back(length);
                    self.fail(header.stream, Reason::FLOW_CONTROL_ERROR);
                    self.skip(header);
                    return self.nuisance();
                }
            }
            None if self.forgotten.contains(&header.stream) => {}
            None => {
                self.frame(
                    kind::RST_STREAM,
                    0,
                    header.stream,
                    &Reason::STREAM_CLOSED.0.to_be_bytes(),
                );
                self.remember(header.stream);
                self.nuisance()?;
            }
        }
        if length == 0 && !header.has(flag::END_STREAM) {
            self.nuisance()?;
        }
        if header.has(flag::PADDED) {
            if length == 0 {
                return size("no room for the length of the padding");
            }
            self.phase = Phase::Padding(header);
        } else {
            self.phase = Phase::Data(Data {
                stream: header.stream,
                left: length,
                padding: 0,
                end: header.has(flag::END_STREAM),
            });
        }
        Ok(())
    }

    /// Reads over a DATA frame whose credit is settled already.
    fn skip(&mut self, header: FrameHeader) {
        self.phase = Phase::Data(Data {
            stream: header.stream,
            left: 0,
            padding: u32::try_from(header.length).unwrap_or(u32::MAX),
            end: false,
        });
    }

    /// Reads on in a DATA frame.
    fn data<'i>(&mut self, mut data: Data, input: &mut &'i [u8]) -> Option<Event<'i>> {
        if data.left == 0 {
            let padding = take(input, usize::try_from(data.padding).unwrap_or(usize::MAX));
            data.padding -= u32::try_from(padding.len()).unwrap_or(data.padding);
            self.phase = Phase::Data(data);
            return None;
        }
        let bytes = take(input, usize::try_from(data.left).unwrap_or(usize::MAX));
        let length = u32::try_from(bytes.len()).unwrap_or(data.left);
        data.left -= length;
        self.phase = Phase::Data(data);
        match self.streams.get_mut(&data.stream) {
            Some(stream) if stream.reset.is_none() => {
                stream.unreleased += length;
                self.unread += length;
                Some(Event::Data(data.stream, bytes))
            }
            // Nobody reads it any more.
            _ => {
                self.give_back(length);
                None
            }
        }
    }

    /// Bytes of a stream that its user never sees.
    fn release_received(&mut self, number: u32, bytes: u32) {
        if let Some(stream) = self.streams.get_mut(&number).filter(|it| it.reset.is_none()) {
            stream.unreleased += bytes;
            self.unread += bytes;
            self.release(number, usize::try_from(bytes).unwrap_or(usize::MAX));
        } else {
            self.give_back(bytes);
        }
    }

    /// The peer has ended a stream.
    pub(super) fn ended(&mut self, number: u32) {
        if let Some(stream) = self.streams.get_mut(&number)
            && stream.reset.is_none()
        {
            stream.ended_there = true;
            self.events.push_back(Event::Ended(number));
        }
    }

    /// Resets a stream for what the peer did on it, and tells its user.
    pub(super) fn fail(&mut self, number: u32, reason: Reason) {
        self.reset(number, reason);
        self.events.push_back(Event::Reset(number, reason));
    }

    /// A frame that is no DATA is here as a whole.
    fn whole(&mut self, header: FrameHeader, body: &[u8]) -> Result<(), Fault> {
        match header.kind {
            kind::HEADERS => self.headers(header, body),
            kind::CONTINUATION => self.continuation(header, body),
            kind::RST_STREAM => self.rst_stream(header.stream, number(body)),
            kind::SETTINGS => self.settings(header, body),
            kind::PING => self.ping_received(header, body),
            kind::GOAWAY => self.go_away_received(body),
            kind::WINDOW_UPDATE => self.window_update(header.stream, number(body) & LARGEST_WINDOW),
            // PRIORITY, and what we do not know (RFC 9113 4.1, 5.3.2).
            _ => self.nuisance(),
        }
    }

    fn rst_stream(&mut self, number: u32, reason: u32) -> Result<(), Fault> {
        if self.is_idle(number) {
            return protocol("RST_STREAM on a stream that was never opened");
        }
        // Even where we have reset it first: the peer knows now that it is over, so that nothing is under way any more.
        self.forgotten.retain(|other| *other != number);
        let Some(stream) = self.streams.get_mut(&number) else {
            return self.nuisance();
        };
        if stream.reset.is_some() {
            stream.reset = Some(By::Peer);
            return self.nuisance();
        }
        let hasty = self.side == Side::Server && !stream.answered;
        // One that has ended both ways is over already.
        if !stream.is_closed() {
            stream.reset = Some(By::Peer);
            self.events.push_back(Event::Reset(number, Reason(reason)));
        }
        if hasty { self.nuisance() } else { Ok(()) }
    }

    fn settings(&mut self, header: FrameHeader, body: &[u8]) -> Result<(), Fault> {
        if header.has(flag::ACK) {
            return self.acknowledged();
        }
        if self.introduced {
            self.nuisance()?;
        }
        self.introduced = true;
        let before = i64::from(self.allowed.window);
        self.allowed.take(body, self.side)?;
        let raised = i64::from(self.allowed.window) - before;
        for stream in self.streams.values_mut() {
            stream.send += raised;
            if stream.send > i64::from(LARGEST_WINDOW) {
                return Err(Fault(Reason::FLOW_CONTROL_ERROR, "SETTINGS raise a window too far"));
            }
        }
        self.frame(kind::SETTINGS, flag::ACK, 0, &[]);
        self.events.push_back(Event::Credit(None));
        Ok(())
    }

    fn ping_received(&mut self, header: FrameHeader, body: &[u8]) -> Result<(), Fault> {
        if header.has(flag::ACK) {
            let payload = body.first_chunk().copied().unwrap_or_default();
            self.events.push_back(Event::Pong(payload));
        } else {
            self.frame(kind::PING, flag::ACK, 0, body);
        }
        self.nuisance()
    }

    fn go_away_received(&mut self, body: &[u8]) -> Result<(), Fault> {
        let last = number(body) & LARGEST_WINDOW;
        let reason = Reason(number(body.get(4..).unwrap_or_default()));
        self.refused = true;
        // What the peer will not serve may be asked for elsewhere (RFC 9113 6.8).
        if self.side == Side::Client {
            for (number, stream) in &mut self.streams {
                if *number > last && !stream.is_closed() {
                    stream.reset = Some(By::Peer);
                    self.events.push_back(Event::Reset(*number, Reason::REFUSED_STREAM));
                }
            }
        }
        self.events.push_back(Event::GoAway(reason));
        self.nuisance()
    }

    fn window_update(&mut self, number: u32, raise: u32) -> Result<(), Fault> {
        if number == 0 {
            self.send += i64::from(raise);
            if raise == 0 {
                return protocol("a WINDOW_UPDATE by nothing");
            }
            if self.send > i64::from(LARGEST_WINDOW) {
                return Err(Fault(
                    Reason::FLOW_CONTROL_ERROR,
                    "the connection's window is raised too far",
                ));
            }
            self.events.push_back(Event::Credit(None));
            return Ok(());
        }
        if self.is_idle(number) {
            return protocol("WINDOW_UPDATE on a stream that was never opened");
        }
        let Some(stream) = self.streams.get_mut(&number).filter(|it| !it.is_closed()) else {
            return self.nuisance();
        };
        stream.send += i64::from(raise);
        if raise == 0 || stream.send > i64::from(LARGEST_WINDOW) {
            let reason = if raise == 0 {
                Reason::PROTOCOL_ERROR
            } else {
                Reason::FLOW_CONTROL_ERROR
            };
            self.fail(number, reason);
            return self.nuisance();
        }
        self.events.push_back(Event::Credit(Some(number)));
        Ok(())
    }
}

/// The first four bytes as a number.
fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(body.first_chunk().copied().unwrap_or_default())
}
