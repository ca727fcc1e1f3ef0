"""Scrapy settings: polite by default, safe to kill. Every value that is not Scrapy's default says why.

A crawl of the real sites keeps these values. ``-s CONTACT=mailto:you@example.org`` tells the site whom to ask.
"""

from __future__ import annotations

from crawler.site import BOT_NAME as BOT_NAME  # a setting of Scrapy's too

SPIDER_MODULES = ["crawler.spiders"]

# Ours.
RAW_DIR = "data/raw"  # records and audio go to <RAW_DIR>/<spider>/
CONTACT = ""  # an address that the user agent names: mailto:... or a page
PROGRESS_SECONDS = 5.0  # between two lines of progress on stderr
PRINT_RESULT = True  # the closing table, or a dry run's plan, to stdout; wavtext5k-crawl prints it by itself
TDMREP_OBEY = True  # leave out what a site reserves from text and data mining
CRAWL_DELAY_MAX_S = 300.0  # a site whose robots.txt asks for more between two requests is not crawled
RETRY_AFTER_MAX_S = 900.0  # a site that asks to wait longer ends the crawl, to be run again then
RETRY_FAILED_DAYS = 7.0  # a clip that is gone, or no audio, is asked again after so long
LISTING_PAGES_MAX = 2_000  # ten times SoundBible's 235: a listing that goes on is one without end
BIGSOUNDBANK_SEARCHES_MAX = 500  # words to search for, should its sitemap be gone
SAMPLE_CLIPS = 8  # clips that a dry run asks for their size
PAGE_MAXSIZE = 16 * 2**20  # a page of more is none; BigSoundBank's sitemap has 1.24 MB
DOWNLOAD_MIN_RATE = 1_024.0  # bytes a second; an answer that comes slower is given up
DOWNLOAD_MIN_RATE_AFTER = 30.0  # seconds from the request on

# Polite: what robots.txt says holds, one request at a time, a second apart, slower when the site is slow.
ROBOTSTXT_OBEY = True
ROBOTSTXT_USER_AGENT = BOT_NAME
CONCURRENT_REQUESTS_PER_DOMAIN = 1
DOWNLOAD_DELAY = 1.0
DOWNLOAD_DELAY_JITTER = 0.0  # Scrapy's half a delay more or less would make every second request too early
AUTOTHROTTLE_ENABLED = True
AUTOTHROTTLE_START_DELAY = 1.0
COOKIES_ENABLED = False  # neither site needs a session to show a sound

# Closed doors: RemoteControl runs Python code that is sent to it, and is on by default since Scrapy 2.19. EXTENSIONS
# below takes both out altogether, so that what they import is not loaded either.
REMOTE_CONTROL_ENABLED = False
TELNETCONSOLE_ENABLED = False

# Speed of our own making: a page brings one item, and Scrapy would start a hundred workers for it; and it would read
# each callback's source for a mistake that ours do not make. Together a fifth of a crawl's processor time.
CONCURRENT_ITEMS = 1
WARN_ON_GENERATOR_RETURN_VALUE = False

# Failures.
RETRY_TIMES = 4  # a shared host that is busy for some seconds is the common case
REDIRECT_MAX_TIMES = 5
METAREFRESH_ENABLED = False  # a page that sends elsewhere by itself is not the page of a sound
DOWNLOAD_VERIFY_CERTIFICATES = True  # a record must be from the site that it names
TWISTED_DNS_RESOLVER = "scrapy.resolver.CachingHostnameResolver"  # Scrapy's default knows no IPv6
DOWNLOAD_TIMEOUT = 60  # for a page, and the longest silence of any answer; audio as a whole: crawler.pipelines
DOWNLOAD_HANDLERS = {"http": "crawler.downloads.WatchedHandler", "https": "crawler.downloads.WatchedHandler"}
DOWNLOAD_MAXSIZE = 200 * 2**20  # SoundBible's 2124 is a WAV of 400 MB; its MP3 is asked instead
DOWNLOAD_WARNSIZE = 0  # a long recording is nothing to warn of

# Order: pages in the site's order, and each clip's audio soon after its page. The default lets 5 MB of pages wait for
# their audio, some 250 of them, and a kill loses what waits.
SCHEDULER_MEMORY_QUEUE = "scrapy.squeues.FifoMemoryQueue"
SCRAPER_SLOT_MAX_ACTIVE_SIZE = 60_000

# No JOBDIR: it loses most of a crawl on SIGKILL (scrapy issue 7978). A second run of the same command asks for what
# is missing and nothing else, and pages come from the cache.
HTTPCACHE_ENABLED = True
HTTPCACHE_POLICY = "crawler.cache.PagePolicy"
HTTPCACHE_STORAGE = "crawler.cache.PageStorage"
HTTPCACHE_EXPIRATION_SECS = 7 * 86_400  # a page is asked again after a week; both sites change a few times a month

DOWNLOADER_MIDDLEWARES = {
    "crawler.politeness.StayOnSite": 50,  # before robots.txt, retries and redirects
    "scrapy.downloadermiddlewares.robotstxt.RobotsTxtMiddleware": None,
    "crawler.politeness.ObeyRobots": 100,
    "scrapy.downloadermiddlewares.retry.RetryMiddleware": None,
    "crawler.politeness.PatientRetry": 550,  # where Scrapy's own stands
    "scrapy.downloadermiddlewares.httpcache.HttpCacheMiddleware": None,
    "crawler.cache.PageCache": 900,  # likewise
    "scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": None,  # StayOnSite says more
    "scrapy.downloadermiddlewares.httpauth.HttpAuthMiddleware": None,
}
SPIDER_MIDDLEWARES = {  # each is a layer around every callback, for what no spider here asks for
    "scrapy.spidermiddlewares.depth.DepthMiddleware": None,
    "scrapy.spidermiddlewares.urllength.UrlLengthMiddleware": None,  # a long title is no reason to lose a clip
}
ITEM_PIPELINES = {"crawler.pipelines.StoreClip": 300}
EXTENSIONS = {
    "scrapy.extensions.remote_control.RemoteControl": None,
    "scrapy.extensions.telnet.TelnetConsole": None,
    "crawler.reporter.Reporter": 0,
    "crawler.sampling.Sampler": 20,
}

LOG_LEVEL = "WARNING"  # progress and the closing table say the rest
