//! Header blocks that come in: new streams, answers, trailers (RFC 9113 6.2, 6.10, 8).

use http::StatusCode;

use super::{
    Endpoint, Event, Fault, Reason, Side,
    head::Fields,
    input::{Block, unpadded},
    stream::{By, Stream},
    wire::{FrameHeader, flag, kind},
};

impl<T: Default> Endpoint<T> {
    pub(super) fn headers(&mut self, header: FrameHeader, body: &[u8]) -> Result<(), Fault> {
        let protocol = |why| Err(Fault(Reason::PROTOCOL_ERROR, why));
        let Some(mut fields) = unpadded(header.has(flag::PADDED), body) else {
            return protocol("more padding than frame");
        };
        if header.has(flag::PRIORITY) {
            // Told and ignored (RFC 9113 5.3.2).
            let Some((_, rest)) = fields.split_at_checked(5) else {
                return Err(Fault(Reason::FRAME_SIZE_ERROR, "HEADERS too short for their priority"));
            };
            fields = rest;
        }
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.block(header.stream, end, fields);
        }
        self.block = Some(Block {
            stream: header.stream,
            end,
            bytes: fields.to_vec(),
        });
        Ok(())
    }

    pub(super) fn continuation(&mut self, header: FrameHeader, body: &[u8]) -> Result<(), Fault> {
        let Some(mut block) = self.block.take() else {
            return Err(Fault(Reason::PROTOCOL_ERROR, "CONTINUATION of nothing"));
        };
        // A flood of them, with or without bytes, ends here (CVE-2024-27316 and its kin).
        self.nuisance()?;
        let most = usize::try_from(self.settings.head)
            .unwrap_or(usize::MAX)
            .saturating_mul(2);
        if block.bytes.len() + body.len() > most {
            return Err(Fault(
                Reason::ENHANCE_YOUR_CALM,
                "a header block beyond twice its bound",
            ));
        }
        block.bytes.extend_from_slice(body);
        if header.has(flag::END_HEADERS) {
            return self.block(header.stream, block.end, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A block is complete. It is read whatever becomes of it: later ones build on it.
    fn block(&mut self, number: u32, end: bool, block: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(usize::try_from(self.settings.head).unwrap_or(usize::MAX));
        self.decoder
            .decode(block, |name, value| fields.add(&name, value))
            .map_err(|_| Fault(Reason::COMPRESSION_ERROR, "a header block that cannot be read"))?;
        let Some(stream) = self.streams.get(&number) else {
            return self.on_no_stream(number, end, fields);
        };
        if stream.reset == Some(By::Us) {
            return Ok(());
        }
        if stream.reset.is_some() || stream.ended_there {
            return Err(Fault(
                Reason::STREAM_CLOSED,
                "HEADERS on a stream that its sender ended",
            ));
        }
        if stream.headed {
            return self.trailers(number, end, fields);
        }
        self.answer_received(number, end, fields)
    }

    fn on_no_stream(&mut self, number: u32, end: bool, fields: Fields) -> Result<(), Fault> {
        if self.is_idle(number) {
            return match self.side {
                Side::Server if number % 2 == 1 => self.opened(number, end, fields),
                _ => Err(Fault(Reason::PROTOCOL_ERROR, "HEADERS on a stream that nobody opened")),
            };
        }
        if self.forgotten.contains(&number) {
            return Ok(());
        }
        Err(Fault(Reason::STREAM_CLOSED, "HEADERS on a stream that is over"))
    }

    /// The peer opens a stream.
    fn opened(&mut self, number: u32, end: bool, fields: Fields) -> Result<(), Fault> {
        self.last = number;
        if self.serving.is_some_and(|last| number > last) {
            // It has not heard yet that we leave; it will ask elsewhere.
            self.remember(number);
            return self.nuisance();
        }
        let refused = |this: &mut Self, reason: Reason| {
            this.frame(kind::RST_STREAM, 0, number, &reason.0.to_be_bytes());
            this.remember(number);
            this.nuisance()
        };
        if self.streams.len() >= usize::try_from(self.settings.streams).unwrap_or(usize::MAX) {
            self.turned_away += 1;
            return refused(self, Reason::REFUSED_STREAM);
        }
        let Ok(head) = fields.request() else {
            return refused(self, Reason::PROTOCOL_ERROR);
        };
        let mut stream = Stream::new(&self.allowed, self.settings.stream_window, T::default());
        stream.headed = true;
        self.streams.insert(number, stream);
        self.events.push_back(Event::Opened(number, head));
        if end {
            self.ended(number);
        }
        Ok(())
    }

    /// The peer answers a stream of ours.
    fn answer_received(&mut self, number: u32, end: bool, fields: Fields) -> Result<(), Fault> {
        match fields.response() {
            Ok(response) if response.status().is_informational() => {
                if end || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    self.fail(number, Reason::PROTOCOL_ERROR);
                }
                self.nuisance()
            }
            Ok(response) => {
                if let Some(stream) = self.streams.get_mut(&number) {
                    stream.headed = true;
                }
                self.events.push_back(Event::Answered(number, response));
                if end {
                    self.ended(number);
                }
                Ok(())
            }
            Err(_) => {
                self.fail(number, Reason::PROTOCOL_ERROR);
                self.nuisance()
            }
        }
    }

    fn trailers(&mut self, number: u32, end: bool, fields: Fields) -> Result<(), Fault> {
        if end && fields.trailers().is_ok() {
            self.ended(number);
            return Ok(());
        }
        self.fail(number, Reason::PROTOCOL_ERROR);
        self.nuisance()
    }
}
